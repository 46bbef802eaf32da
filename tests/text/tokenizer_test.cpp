#include "text/tokenizer.h"

#include <gtest/gtest.h>

namespace kvasir::text {
namespace {

TEST(Tokenizer, Smoke) {
  auto tokenizer = Tokenizer::parse(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
    "merges": ["a b"]}})",
                                    "test");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().what();
  EXPECT_EQ(tokenizer.value().encode("aab"), (std::vector<TokenId>{0, 2}));
}

}  // namespace
}  // namespace kvasir::text

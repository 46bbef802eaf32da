#include "tasks/random.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kvasir::tasks {
namespace {

TEST(Random, GoldensOfItsDefinition) {
  Random zero(0);
  EXPECT_EQ(zero.next(), 0xe220a8397b1dcdafull);
  EXPECT_EQ(zero.next(), 0x6e789e6aa1b965f4ull);
  EXPECT_EQ(zero.next(), 0x06c45d188009454full);

  Random digits(42);
  std::vector<uint64_t> drawn;
  for (int i = 0; i < 10; ++i) drawn.push_back(digits.below(10));
  EXPECT_EQ(drawn, (std::vector<uint64_t>{7, 1, 2, 3, 0, 8, 2, 8, 3, 6}));

  std::vector<int> order(8);
  std::iota(order.begin(), order.end(), 0);
  Random(42).shuffle(order);
  EXPECT_EQ(order, (std::vector<int>{4, 3, 2, 0, 7, 6, 1, 5}));
  EXPECT_EQ(Random(42).sample(100, 6), (std::vector<uint64_t>{74, 16, 29, 36, 7, 87}));

  EXPECT_EQ(fnv1a("tiny.kv"), 0x656a053fa741461eull);
  EXPECT_EQ(Random(0, "tiny.kv", 0).next(), 0x3e03f70572d6b8f3ull);
  EXPECT_EQ(Random(0, "tiny.kv", 1).next(), 0x0f7b2cfff32ae512ull);
}

TEST(Random, ASampleOfAllIsAPermutation) {
  std::vector<uint64_t> all = Random(7).sample(1000, 1000);
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  for (uint64_t i = 0; i < 1000; ++i) EXPECT_EQ(all[i], i);
}

}  // namespace
}  // namespace kvasir::tasks

#include <gtest/gtest.h>

#include "cli/harness.h"

namespace kvasir::cli {
namespace {

TEST(Run, AnswersOneQuestion) {
  const std::string book = temporary_file("book.txt", "It was a dark night.\n");
  const Outcome outcome = run({"run", "--model", "fake", "--document", book, "--ask", "Who?"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "29 tokens about Who?\n");
}

}  // namespace
}  // namespace kvasir::cli

// Measures of overlap against the packages rouge-score and nltk.

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "tasks/score.h"

namespace kvasir::tasks {
namespace {

std::string lines_of(std::string text) {
  for (size_t at; (at = text.find("\\n")) != std::string::npos;) text.replace(at, 2, "\n");
  return text;
}

TEST(ScoreOracle, OverlapIsThePackages) {
  const std::string root = KVASIR_SOURCE_DIR, python = root + "/.venv-oracle/bin/python";
  if (!std::filesystem::exists(python)) GTEST_SKIP() << "no .venv-oracle";
  if (std::system((python + " -c 'import rouge_score, nltk' 2>/dev/null").c_str()) != 0)
    GTEST_SKIP() << "rouge-score is not installed in .venv-oracle";
  RecordProperty("seed", 11);
  FILE* pipe = popen((python + " " + root + "/tests/tasks/score_oracle.py 11").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  int compared = 0;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) {
    const std::string line = buffer;
    const size_t first = line.find('\t'), second = line.find('\t', first + 1),
                 third = line.find('\t', second + 1);
    ASSERT_NE(third, std::string::npos);
    const std::string candidate = lines_of(line.substr(first + 1, second - first - 1));
    const std::string reference = lines_of(line.substr(second + 1, third - second - 1));
    const double expected = std::stod(line.substr(third + 1));
    const double scored = line.starts_with("rouge") ? rouge_lsum(candidate, reference)
                                                    : code_similarity(candidate, reference);
    EXPECT_NEAR(scored, expected, 1e-9) << line;
    ++compared;
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_EQ(compared, 600);
}

}  // namespace
}  // namespace kvasir::tasks

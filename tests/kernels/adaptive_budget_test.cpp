#include "kernels/vertical_slash/adaptive_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace kvasir::kernels {
namespace {

TEST(AdaptiveBudget, CountsTheForcedAndThenTheHighest) {
  const std::vector<float> scores{0.5f, 0, 4, 1, 2, 0.5f};  // 8 in all
  EXPECT_EQ(adaptive_budget(scores, 0, 0.5f), 1);
  EXPECT_EQ(adaptive_budget(scores, 0, 0.51f), 2);
  EXPECT_EQ(adaptive_budget(scores, 0, 0.875f), 3);
  EXPECT_EQ(adaptive_budget(scores, 2, 0.05f), 2);
  EXPECT_EQ(adaptive_budget(scores, 2, 0.5f), 3);
  EXPECT_EQ(adaptive_budget(scores, 2, 0.6f), 4);
  EXPECT_EQ(adaptive_budget(scores, 9, 0.1f), 6);
}

TEST(AdaptiveBudget, AllAreFewestThatHoldAll) {
  EXPECT_EQ(adaptive_budget(std::vector<float>{1, 0, 1, 0}, 0, 1), 2);
  EXPECT_EQ(adaptive_budget(std::vector<float>{0, 0, 0}, 1, 1), 1);
  EXPECT_EQ(adaptive_budget(std::vector<float>{NAN, 1, -3, 1}, 1, 1), 3);
  EXPECT_EQ(adaptive_budget({}, 3, 1), 0);
}

TEST(AdaptiveBudget, IsTheFewestThatReachTheShare) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    std::vector<float> scores(1 + random() % 200);
    for (float& score : scores) score = std::ldexp(static_cast<float>(1 + random() % 50), -8);
    const int64_t forced = random() % 20;
    const float share = static_cast<float>(random() % 1000) / 1000;
    const int64_t count = adaptive_budget(scores, forced, share);
    std::vector<float> ordered = scores;
    const auto others = ordered.begin() + std::min(forced, std::ssize(ordered));
    std::sort(others, ordered.end(), std::greater<>());
    double all = 0, taken = 0;
    for (const float score : ordered) all += score;
    for (int64_t i = 0; i < count; ++i) taken += ordered[static_cast<size_t>(i)];
    EXPECT_GE(taken, double{share} * all);
    if (count > others - ordered.begin()) {
      EXPECT_LT(taken - ordered[static_cast<size_t>(count - 1)], double{share} * all);
    }
  }
}

}  // namespace
}  // namespace kvasir::kernels

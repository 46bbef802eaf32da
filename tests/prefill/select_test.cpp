#include "prefill/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace kvasir::prefill {
namespace {

std::vector<int32_t> sorted_selection(const std::vector<float>& scores, int64_t count) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(std::clamp<int64_t>(count, 0, std::ssize(order))));
  std::ranges::sort(order);
  return order;
}

TEST(Select, TakesTheHighestAndOfEqualsTheFirst) {
  std::vector<float> scratch;
  std::vector<int32_t> chosen;
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<float> scores(1 + random() % 300);
    // Few values, so that most of them are shared.
    for (float& score : scores) score = static_cast<float>(random() % (2 + seed % 20));
    scores[random() % scores.size()] = INFINITY;
    for (const int64_t count : {int64_t{0}, int64_t{1}, static_cast<int64_t>(random() % 300),
                                std::ssize(scores) - 1, std::ssize(scores), int64_t{1000}}) {
      select_highest(scores, count, scratch, chosen);
      EXPECT_EQ(chosen, sorted_selection(scores, count)) << count;
    }
  }
}

TEST(Select, TakesNanLast) {
  std::vector<float> scratch;
  std::vector<int32_t> chosen;
  select_highest(std::vector<float>{NAN, 1, NAN, 0, 2}, 3, scratch, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{1, 3, 4}));
  select_highest(std::vector<float>{NAN, 1, NAN, 0, 2}, 4, scratch, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1, 3, 4}));
}

// By sorting and adding up.
std::vector<int32_t> sorted_until(const std::vector<float>& scores, double mass) {
  double sum = 0;
  int64_t count = 0;
  auto sorted = scores;
  std::ranges::sort(sorted, std::greater<>());
  while (count < std::ssize(sorted) && sum < mass) sum += sorted[static_cast<size_t>(count++)];
  return sorted_selection(scores, sum < mass ? std::ssize(sorted) : count);
}

TEST(Select, TakesTheFewestThatReachAMass) {
  std::vector<float> scratch;
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<float> scores(1 + random() % 300);
    // Powers of two, whose sums are exact in every order, from few to many different ones; zeros.
    const int spread = 1 + static_cast<int>(random() % 24);
    for (float& score : scores)
      score = random() % 4 == 0 ? 0 : std::ldexp(1.0f, -static_cast<int>(random() % spread));
    const double all = sum_of(scores);
    for (const double share : {-1.0, 0.0, 1e-9, 0.25, 0.5, 0.9, 0.999, 1.0, 1.5}) {
      const Cut cut = cut_reaching(scores, share * all, scratch);
      std::vector<int32_t> found;
      cut.for_each(scores, [&found](int64_t i) { found.push_back(static_cast<int32_t>(i)); });
      EXPECT_EQ(found, sorted_until(scores, share * all)) << share;
      EXPECT_EQ(cut.count, std::ssize(found));
    }
  }
}

TEST(Select, ScoresOfAnySizeReachAMass) {
  std::vector<float> scratch;
  std::mt19937 random(7);
  std::lognormal_distribution<float> size(0, 6);
  std::vector<float> scores(5000);
  for (float& score : scores) score = size(random);
  std::vector<float> sorted = scores;
  std::ranges::sort(sorted, std::greater<>());
  for (const double share : {0.3, 0.7, 0.99}) {
    const double mass = share * sum_of(scores);
    const int64_t count = cut_reaching(scores, mass, scratch).count;
    EXPECT_GE(sum_of(std::span(sorted).first(static_cast<size_t>(count))), mass * (1 - 1e-12));
    EXPECT_LT(sum_of(std::span(sorted).first(static_cast<size_t>(count - 1))), mass * (1 + 1e-12));
  }
  // Neither NaN nor what is below 0 adds to it.
  EXPECT_EQ(cut_reaching(std::vector<float>{-5, NAN, 1, 2}, 2.5, scratch).count, 2);
}

}  // namespace
}  // namespace kvasir::prefill

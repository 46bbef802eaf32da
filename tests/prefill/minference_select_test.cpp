#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "prefill/minference/select.h"

namespace kvasir::prefill::minference {
namespace {

std::vector<int32_t> sorted_selection(const std::vector<float>& scores, int64_t count) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(std::clamp<int64_t>(count, 0, std::ssize(order))));
  std::ranges::sort(order);
  return order;
}

TEST(MinferenceSelect, TakesTheHighestAndOfEqualsTheFirst) {
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

TEST(MinferenceSelect, TakesNanLast) {
  std::vector<float> scratch;
  std::vector<int32_t> chosen;
  select_highest(std::vector<float>{NAN, 1, NAN, 0, 2}, 3, scratch, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{1, 3, 4}));
  select_highest(std::vector<float>{NAN, 1, NAN, 0, 2}, 4, scratch, chosen);
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1, 3, 4}));
}

TEST(MinferenceSelect, ClampsBudgets) {
  const auto clamped = [](int64_t v, int64_t s, double ratio, int64_t length) {
    const Budgets budgets = clamp_budgets(v, s, ratio, length);
    return std::pair(budgets.columns, budgets.offsets);
  };
  EXPECT_EQ(clamped(1000, 6096, 1, 100000), std::pair(int64_t{1000}, int64_t{6096}));
  EXPECT_EQ(clamped(0, 0, 1, 100000), std::pair(int64_t{30}, int64_t{50}));
  EXPECT_EQ(clamped(1000, 6096, 1, 20), std::pair(int64_t{20}, int64_t{20}));
  EXPECT_EQ(clamped(1000, 6096, 1, 40), std::pair(int64_t{40}, int64_t{40}));
  EXPECT_EQ(clamped(101, 201, 0.5, 100000), std::pair(int64_t{50}, int64_t{100}));
  EXPECT_EQ(clamped(100, 200, 1e300, 5000), std::pair(int64_t{5000}, int64_t{5000}));
}

TEST(MinferenceSelect, ForcedEntriesCountAgainstTheBudgets) {
  std::vector<float> columns(400, 0), offsets(400, 0);
  columns[200] = columns[300] = 5;
  offsets[150] = 4;
  offsets[350] = 3;
  Selection selection;
  auto copies = std::pair(columns, offsets);
  select_vertical_slash(copies.first, copies.second, {.columns = 31, .offsets = 101}, selection);
  EXPECT_EQ(selection.columns.size(), 31u);
  EXPECT_EQ(selection.columns[29], 29);
  EXPECT_EQ(selection.columns[30], 200);
  EXPECT_EQ(selection.offsets.size(), 101u);
  EXPECT_EQ(selection.offsets[99], 99);
  EXPECT_EQ(selection.offsets[100], 150);
  // Fewer than the forced: the nearest, so that offset 0 is never lost.
  copies = std::pair(columns, offsets);
  select_vertical_slash(copies.first, copies.second, {.columns = 30, .offsets = 50}, selection);
  EXPECT_EQ(selection.offsets.front(), 0);
  EXPECT_EQ(selection.offsets.back(), 49);
  std::vector<float> one(1), other(1);
  select_vertical_slash(one, other, clamp_budgets(0, 0, 1, 1), selection);
  EXPECT_EQ(selection.columns, std::vector<int32_t>{0});
  EXPECT_EQ(selection.offsets, std::vector<int32_t>{0});
}

}  // namespace
}  // namespace kvasir::prefill::minference

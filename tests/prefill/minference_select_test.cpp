#include <gtest/gtest.h>

#include <cmath>

#include "prefill/minference/select.h"

namespace kvasir::prefill::minference {
namespace {

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

// The counts of plan_size.h against the plan's text, pair by pair.

#include "kernels/paged_attention/plan_size.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/random_plan.h"

namespace kvasir::kernels {
namespace {

// By the definition: every pair is looked at, for every segment by itself.
PlanSize counted(const PlannedRows& rows) {
  static constexpr PlanSegment kDense{.count = kNoBound};
  const OwnPlan dense{.heads = {{.count = 1}}, .segments = {kDense}};
  const AttentionPlan plan = rows.plan ? *rows.plan : dense.view();
  const int head = rows.plan ? rows.head : 0;
  const HeadProgram& program = plan.heads[static_cast<size_t>(head)];
  const auto in_window = [&](int64_t row, int64_t key) {
    const int64_t offset = rows.query_offset + row - key;
    return offset >= 0 && (rows.window == 0 || offset < rows.window);
  };
  PlanSize size;
  for (int64_t first = 0; first < rows.rows; first += plan.row_tile) {
    const int64_t last = std::min(first + plan.row_tile, rows.rows);
    for (int64_t row = first; row < last; ++row)
      for (int64_t key = 0; key <= rows.query_offset + row; ++key)
        size.causal += in_window(row, key);
    for (const PlanSegment& segment : plan.segments.subspan(program.first, program.count)) {
      std::set<int64_t> keys, groups;
      for (int64_t row = first; row < last; ++row)
        for (int64_t key = 0; key < rows.query_offset + rows.rows; ++key) {
          if (!in_window(row, key) || !holds(plan, head, segment, rows.query_offset, row, key))
            continue;
          ++size.required;
          keys.insert(key);
          groups.insert(key / 64);
        }
      const size_t used =
          segment.kind == SegmentKind::kColumns ? (keys.size() + 63) / 64 : groups.size();
      size.computed += (last - first) * 64 * static_cast<int64_t>(used);
    }
  }
  return size;
}

void expect_counts(const PlannedRows& rows) {
  const PlanSize expected = counted(rows), found = plan_size(rows);
  EXPECT_EQ(found.required, expected.required);
  EXPECT_EQ(found.computed, expected.computed);
  EXPECT_EQ(found.causal, expected.causal);
}

TEST(PlanSize, RandomPlansAreCountedExactly) {
  for (uint32_t seed = 1; seed <= 60 && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&](int64_t end) { return static_cast<int64_t>(random()) % end; };
    const int64_t rows = 1 + below(300), offset = below(2) * below(500);
    const RandomPlan plan(random, 2, rows, offset);
    const AttentionPlan view = plan.plan().view();
    for (int head = 0; head < 2; ++head)
      expect_counts({.plan = &view,
                     .head = head,
                     .rows = rows,
                     .query_offset = offset,
                     .window = below(3) ? 0 : 1 + below(200)});
  }
}

TEST(PlanSize, DenseRowsHaveAllPairs) {
  const PlanSize size = plan_size({.rows = 100});
  EXPECT_EQ(size.required, 100 * 101 / 2);
  EXPECT_EQ(size.causal, size.required);
  EXPECT_EQ(size.computed, 64 * 64 + 36 * 128);
  EXPECT_EQ(size.density(), 1);
  for (const int64_t window : {0, 1, 70})
    expect_counts({.rows = 150, .query_offset = 70, .window = window});
}

TEST(PlanSize, NothingIsWholeAndHasNoPairs) {
  const PlanSize size = plan_size({});
  EXPECT_EQ(size.required, 0);
  EXPECT_EQ(size.computed, 0);
  EXPECT_EQ(size.density(), 1);
}

TEST(PlanSize, LongPromptsDoNotOverflow) {
  const OwnPlan local{.heads = {{.count = 1}}, .segments = {{.count = kNoBound, .offset_end = 64}}};
  const AttentionPlan view = local.view();
  const int64_t rows = int64_t{1} << 24;
  const PlanSize size = plan_size({.plan = &view, .rows = rows, .query_offset = 64});
  EXPECT_EQ(size.required, rows * 64);
  EXPECT_EQ(plan_size({.rows = rows}).required, rows * (rows + 1) / 2);
}

TEST(PlanSize, PairsOfAPartOfARun) {
  const KeyRun run{.first = 3, .last = 40, .offset_begin = 5, .offset_end = 17};
  for (int64_t first = 0; first < 70; first += 7)
    for (int64_t last = first; last < 70; last += 3) {
      int64_t pairs = 0;
      for (int64_t query = first; query < last; ++query)
        for (int64_t key = run.first; key < run.last; ++key)
          pairs += query - key >= run.offset_begin && query - key < run.offset_end;
      ASSERT_EQ(pairs_of(run, first, last), pairs) << first << " " << last;
    }
}

}  // namespace
}  // namespace kvasir::kernels

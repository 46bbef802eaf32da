// The GPU's selection and index against this room's, from the same sums.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/attention_planner/vertical_slash_index_cuda.h"
#include "kernels/gpu.h"
#include "kernels/vertical_slash/adaptive_budget.h"
#include "prefill/a_shape.h"
#include "prefill/gpu_plan.h"
#include "prefill/minference/select.h"
#include "prefill/minference/vertical_slash_index.h"

namespace kvasir::prefill::minference {
namespace {

using kernels::HeadBudget;
using kernels::HeadKind;
using kernels::VerticalSlashBudgets;
using VerticalSlashIndexGpu = testing::GpuTest;
using VerticalSlashIndexGpuFull = testing::GpuTest;

struct Problem {
  std::vector<Chunk> chunks;  // a span each
  int q_heads = 4, kv_heads = 1;
  std::vector<HeadBudget> heads;
  float mass = 0;
  double densest = 0.5;
  int values = 0;      // that sums have; 0: as many as there are
  double cluster = 0;  // chance that a high sum's neighbour is high too
  uint32_t seed = 1;
};

// Sums of which a few are high, in [spans * q_heads][stride].
std::vector<float> random_sums(const Problem& problem, std::mt19937& random, int64_t stride) {
  std::vector<float> sums;
  std::uniform_real_distribution<float> uniform;
  for (const Chunk& chunk : problem.chunks)
    for (int head = 0; head < problem.q_heads; ++head) {
      bool is_high = false;
      for (int64_t i = 0; i < stride; ++i) {
        is_high = uniform(random) < (is_high ? problem.cluster : 0.02);
        float value = uniform(random) * (is_high ? 1 : 0.01f);
        if (problem.values > 0) value = std::round(value * problem.values) / 4;
        // What lies behind a row is nothing.
        sums.push_back(i < chunk.length() ? value : NAN);
      }
    }
  return sums;
}

struct Bounds {
  int64_t columns = kernels::kFewestColumns, offsets = kernels::kFewestOffsets;
};
Bounds bounds_of(const Problem& problem, int64_t max_length) {
  Bounds bounds;
  for (const HeadBudget& head : problem.heads) {
    if (head.kind != HeadKind::kVerticalSlash) continue;
    bounds.columns = std::max<int64_t>(bounds.columns, head.first);
    bounds.offsets = std::max<int64_t>(bounds.offsets, head.second);
  }
  return {std::min(bounds.columns, max_length), std::min(bounds.offsets, max_length)};
}

void expect_equal(const cuda::Context& context, const Problem& problem, int repeats = 1) {
  std::mt19937 random(problem.seed);
  int64_t max_length = 0;
  for (const Chunk& chunk : problem.chunks) max_length = std::max(max_length, chunk.length());
  const int64_t stride = (max_length + 3) / 4 * 4;
  const auto columns = random_sums(problem, random, stride);
  const auto offsets = random_sums(problem, random, stride);
  const Bounds bounds = bounds_of(problem, max_length);
  const VerticalSlashBudgets budgets{.mass = problem.mass,
                                     .most_columns = static_cast<int32_t>(bounds.columns),
                                     .most_offsets = static_cast<int32_t>(bounds.offsets)};
  const int32_t row_tile = problem.chunks[0].row_tile;
  const int spans = static_cast<int>(problem.chunks.size());
  const GpuPlan plan(spans, problem.q_heads, row_tile,
                     kernels::vertical_slash_segments(budgets, max_length, row_tile),
                     budgets.most_columns, 0);
  const testing::DeviceArray<float> columns_there(columns), offsets_there(offsets);
  const testing::DeviceArray<HeadBudget> heads(problem.heads);
  const testing::DeviceArray<kernels::CudaAttentionSpan> spans_there(gpu_spans(problem.chunks));
  const int units = spans * problem.kv_heads;
  const testing::DeviceArray<std::byte> workspace(kernels::vertical_slash_index_workspace_bytes(
      budgets, problem.q_heads / problem.kv_heads, units));
  for (int repeat = 0; repeat < repeats; ++repeat) {
    kernels::run_vertical_slash_index(context, {.column_sums = columns_there.data(),
                                                .offset_sums = offsets_there.data(),
                                                .sums_row_stride = stride,
                                                .heads = heads.data(),
                                                .budgets = budgets,
                                                .densest = problem.densest,
                                                .q_heads = problem.q_heads,
                                                .kv_heads = problem.kv_heads,
                                                .spans = spans_there.data(),
                                                .units = units,
                                                .max_length = max_length,
                                                .plan = plan.arrays(),
                                                .workspace = workspace.data()});
    const GpuPlan::Read found = plan.read();
    for (int span = 0; span < spans; ++span)
      for (int head = 0; head < problem.q_heads; ++head) {
        SCOPED_TRACE(::testing::Message() << "seed " << problem.seed << ", span " << span
                                          << ", head " << head << ", repeat " << repeat);
        const Chunk& chunk = problem.chunks[static_cast<size_t>(span)];
        const HeadBudget& budget = problem.heads[static_cast<size_t>(head)];
        if (budget.kind == HeadKind::kBlockSparse) continue;
        const auto& report = found.report(span, head);
        PlanBuffer expected;
        expected.row_tile = row_tile;
        if (budget.kind == HeadKind::kAShape) {
          append_a_shape(budget.first, std::max(1, budget.second), expected.segments);
        } else if (chunk.rows > 0) {
          const auto row = (span * problem.q_heads + head) * stride;
          std::vector<float> column_sums(columns.begin() + row,
                                         columns.begin() + row + chunk.length());
          std::vector<float> offset_sums(offsets.begin() + row,
                                         offsets.begin() + row + chunk.length());
          Budgets kept = clamp_budgets(budget.first, budget.second, 1, chunk.length());
          if (problem.mass > 0)
            kept =
                clamp_budgets(kernels::adaptive_budget(column_sums, kForcedColumns, problem.mass),
                              kernels::adaptive_budget(offset_sums, kForcedOffsets, problem.mass),
                              1, chunk.length());
          kept.columns = std::min(kept.columns, bounds.columns);
          kept.offsets = std::min(kept.offsets, bounds.offsets);
          Selection selection;
          select_vertical_slash(column_sums, offset_sums, kept, selection);
          const ProgramSize size = append_relative_index(selection, chunk, expected);
          const bool is_dense = size.density() > problem.densest;
          if (is_dense) {
            expected.segments.assign(1, {.count = kernels::kNoBound});
            expected.columns.clear();
          }
          EXPECT_EQ(report.is_dense, is_dense ? 1 : 0);
          EXPECT_EQ(report.dense_pairs, size.dense_pairs);
          EXPECT_EQ(report.pairs, is_dense ? size.dense_pairs : size.pairs);
        }
        ASSERT_NO_FATAL_FAILURE(expect_program(found, span, head, expected));
      }
  }
}

HeadBudget vertical_slash(int32_t columns, int32_t offsets) {
  return {.kind = HeadKind::kVerticalSlash, .first = columns, .second = offsets};
}

TEST_F(VerticalSlashIndexGpu, EqualsTheLibraryOnRandomSums) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    Problem problem{.seed = seed};
    const int32_t row_tile = seed % 2 == 0 ? 64 : 128;
    const auto spans = 1 + random() % 3;
    for (size_t i = 0; i < spans; ++i)
      problem.chunks.push_back(
          {.query_offset = static_cast<int64_t>(random() % 3 * random() % 9000),
           .rows = static_cast<int64_t>(1 + random() % (i == 0 ? 3000 : 300)),
           .row_tile = row_tile});
    problem.q_heads = 4;
    problem.kv_heads = seed % 3 == 0 ? 2 : 1;
    problem.heads = {
        vertical_slash(1000, 600),
        vertical_slash(0, 0),
        vertical_slash(static_cast<int32_t>(random() % 500), static_cast<int32_t>(random() % 2000)),
        {.kind = HeadKind::kAShape,
         .first = static_cast<int32_t>(seed % 3) * 64,
         .second = static_cast<int32_t>(seed % 2) * 100}};
    problem.cluster = seed % 5 * 0.24;
    problem.values = seed % 4 == 0 ? 7 : 0;
    problem.densest = seed % 7 == 0 ? 1 : 0.5;
    expect_equal(context_, problem, seed < 5 ? 3 : 1);
  }
}

TEST_F(VerticalSlashIndexGpu, ShortestSpansAndEmptyOnes) {
  for (const int64_t rows : {1, 2, 63, 64, 65, 128, 129})
    expect_equal(context_, {.chunks = {{.query_offset = 0, .rows = rows, .row_tile = 64},
                                       {.query_offset = 7, .rows = 1, .row_tile = 64}},
                            .q_heads = 2,
                            .heads = {vertical_slash(40, 60), vertical_slash(200, 1)},
                            .densest = 1,
                            .seed = static_cast<uint32_t>(rows)});
  expect_equal(context_, {.chunks = {{.query_offset = 100, .rows = 0, .row_tile = 128},
                                     {.query_offset = 0, .rows = 500, .row_tile = 128}},
                          .q_heads = 1,
                          .heads = {vertical_slash(40, 60)}});
}

TEST_F(VerticalSlashIndexGpu, BudgetsByMass) {
  for (uint32_t seed = 0; seed < 12; ++seed)
    expect_equal(context_, {.chunks = {{.query_offset = 5000, .rows = 1500, .row_tile = 128},
                                       {.query_offset = 0, .rows = 90, .row_tile = 128}},
                            .q_heads = 2,
                            .heads = {vertical_slash(4000, 4000), vertical_slash(4000, 4000)},
                            .mass = std::vector<float>{0.05f, 0.3f, 0.6f, 0.9f, 0.99f, 1}[seed % 6],
                            .densest = 1,
                            .values = seed >= 6 ? 50 : 0,
                            .cluster = 0.8,
                            .seed = seed});
}

TEST_F(VerticalSlashIndexGpuFull, LongPromptsAndTheLargestBudgets) {
  for (const float mass : {0.0f, 0.8f})
    expect_equal(context_,
                 {.chunks = {{.query_offset = 100000, .rows = 931072, .row_tile = 128},
                             {.query_offset = 0, .rows = 131072, .row_tile = 128}},
                  .q_heads = 4,
                  .heads = {vertical_slash(1000, 6096), vertical_slash(22032, 24528),
                            vertical_slash(30, 800), vertical_slash(3500, 100)},
                  .mass = mass,
                  .cluster = 0.3},
                 2);
}

}  // namespace
}  // namespace kvasir::prefill::minference

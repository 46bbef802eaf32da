// Whole layers on a GPU against this room's plans of the same queries and keys, where what is kept
// stands clearly above the rest: sums differ by rounding.

#include <gtest/gtest.h>

#include <random>

#include "kernels/attention_planner/minference_plan_cuda.h"
#include "prefill/gpu_layer.h"
#include "prefill/gpu_plan.h"
#include "prefill/minference/minference.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadPatternKind;
using kernels::HeadBudget;
using kernels::HeadKind;
using MinferencePlanGpu = testing::GpuTest;
using MinferencePlanGpuFull = testing::GpuTest;

struct Case {
  std::vector<Chunk> chunks;
  int q_heads = 4, kv_heads = 2, head_dim = 64;
  std::vector<HeadBudget> heads;
  int32_t blocks = 10;
  double densest = 0.5;
};

kernels::MinferenceBounds bounds_of(const Case& each) {
  kernels::MinferenceBounds bounds{.q_heads = each.q_heads,
                                   .kv_heads = each.kv_heads,
                                   .head_dim = each.head_dim,
                                   .span_count = static_cast<int>(each.chunks.size()),
                                   .row_tile = each.chunks[0].row_tile,
                                   .budgets = {.most_columns = 30, .most_offsets = 50},
                                   .has_vertical_slash = false};
  for (const Chunk& chunk : each.chunks) {
    bounds.max_rows = std::max(bounds.max_rows, chunk.rows);
    bounds.max_length = std::max(bounds.max_length, chunk.length() + 9);
  }
  for (const HeadBudget& head : each.heads) {
    if (head.kind == HeadKind::kBlockSparse) bounds.has_block_sparse = true;
    if (head.kind != HeadKind::kVerticalSlash) continue;
    bounds.has_vertical_slash = true;
    bounds.budgets.most_columns = std::max(bounds.budgets.most_columns, head.first);
    bounds.budgets.most_offsets = std::max(bounds.budgets.most_offsets, head.second);
  }
  return bounds;
}

GpuPlan::Read plan_on_gpu(const cuda::Context& context, const Case& each, const Layer& layer) {
  const kernels::MinferenceBounds bounds = bounds_of(each);
  const kernels::CudaPlanArrays sizes = kernels::minference_plan_sizes(bounds);
  const GpuPlan plan(bounds.span_count, each.q_heads, bounds.row_tile, sizes.head_segments,
                     sizes.head_columns, sizes.head_words);
  const GpuLayer there(layer);
  const testing::DeviceArray<HeadBudget> heads(each.heads);
  const testing::DeviceArray<std::byte> workspace(kernels::minference_plan_workspace_bytes(bounds));
  kernels::run_minference_plan(context, {.q = there.q.data(),
                                         .q_row_stride = int64_t{each.q_heads} * each.head_dim,
                                         .pages = layer.pages(there.pool.data()),
                                         .scale = layer.scale(),
                                         .heads = heads.data(),
                                         .spans = there.spans.data(),
                                         .page_tables = there.table.data(),
                                         .bounds = bounds,
                                         .densest = each.densest,
                                         .blocks = each.blocks,
                                         .plan = plan.arrays(),
                                         .workspace = workspace.data()});
  return plan.read();
}

void expect_equal(const cuda::Context& context, const Case& each, uint32_t seed) {
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  Layer layer(each.chunks, each.q_heads, each.kv_heads, each.head_dim, seed);
  const GpuPlan::Read found = plan_on_gpu(context, each, layer);
  formats::HeadConfig config;
  config.layers.resize(1);
  for (int head = 0; head < each.q_heads; ++head) {
    const HeadBudget& budget = each.heads[static_cast<size_t>(head)];
    const HeadPatternKind kind = budget.kind == HeadKind::kVerticalSlash
                                     ? HeadPatternKind::kVerticalSlash
                                 : budget.kind == HeadKind::kAShape ? HeadPatternKind::kAShape
                                                                    : HeadPatternKind::kBlockSparse;
    config.layers[0][head] = {kind, budget.first, budget.second, {}};
  }
  Options options;
  options.densest = each.densest;
  options.blocks.blocks = each.blocks;
  ThreadPool pool(usable_cpus());
  for (size_t i = 0; i < each.chunks.size(); ++i) {
    Workspace workspace;
    PlanBuffer plan;
    plan_layer({.pool = pool}, options, config, layer.queries(i), workspace, plan);
    for (int head = 0; head < each.q_heads; ++head) {
      SCOPED_TRACE(::testing::Message() << "span " << i << ", head " << head);
      ASSERT_NO_FATAL_FAILURE(expect_program(found, static_cast<int>(i), head,
                                             program_of(plan, head), each.chunks[i].tiles()));
    }
  }
}

// What is planted may fall onto what is forced: so these budgets leave nothing else to choose only
// where it does not. Below them, the rest decides by chance, and by more than rounding.
constexpr HeadBudget kPlanted{HeadKind::kVerticalSlash, 30 + kColumnsPlanted / 2,
                              100 + kOffsetsPlanted / 2};

TEST_F(MinferencePlanGpu, EqualsTheLibraryWhereSumsAreApart) {
  for (uint32_t seed = 0; seed < 6; ++seed) {
    const int32_t row_tile = seed % 2 ? 128 : 64;
    expect_equal(context_,
                 {.chunks = {{.query_offset = 2300, .rows = 700, .row_tile = row_tile},
                             {.query_offset = 0, .rows = 1500, .row_tile = row_tile}},
                  .q_heads = 4,
                  .kv_heads = seed % 3 == 0 ? 1 : 2,
                  .head_dim = seed < 3 ? 64 : 128,
                  .heads = {kPlanted,
                            {.kind = HeadKind::kAShape, .first = 64, .second = 200},
                            {.kind = HeadKind::kBlockSparse},
                            kPlanted}},
                 seed);
  }
}

TEST_F(MinferencePlanGpu, BlockSparseHeadsEqualBitForBit) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    std::vector<Chunk> chunks;
    const int32_t row_tile = seed % 2 ? 128 : 64;
    for (int i = 0; i < 2; ++i)
      chunks.push_back({.query_offset = static_cast<int64_t>(random() % 2500),
                        .rows = static_cast<int64_t>(1 + random() % 900),
                        .row_tile = row_tile});
    expect_equal(context_,
                 {.chunks = chunks,
                  .q_heads = 3,
                  .kv_heads = seed % 3 ? 3 : 1,
                  .head_dim = std::vector<int>{16, 64, 128, 256}[seed / 2],
                  .heads = std::vector<HeadBudget>(3, {.kind = HeadKind::kBlockSparse}),
                  .blocks = static_cast<int32_t>(1 + random() % 30)},
                 seed);
  }
}

TEST_F(MinferencePlanGpu, PlansAreTheSameEachTimeAndInEveryBatch) {
  Case both{.chunks = {{.query_offset = 1000, .rows = 300, .row_tile = 64},
                       {.query_offset = 90, .rows = 2000, .row_tile = 64}},
            .heads = {{HeadKind::kVerticalSlash, 200, 300},
                      {HeadKind::kVerticalSlash, 40, 700},
                      {.kind = HeadKind::kBlockSparse},
                      {HeadKind::kVerticalSlash, 900, 100}},
            .densest = 1};
  Layer layer(both.chunks, both.q_heads, both.kv_heads, both.head_dim, 3);
  const GpuPlan::Read first = plan_on_gpu(context_, both, layer);
  for (int repeat = 0; repeat < 6; ++repeat) {
    // Each span alone in the last two repeats.
    const bool is_alone = repeat >= 4;
    Case some = both;
    Layer some_layer = layer;
    if (is_alone) {
      some.chunks = {both.chunks[static_cast<size_t>(repeat - 4)]};
      some_layer.spans = {layer.spans[static_cast<size_t>(repeat - 4)]};
    }
    const GpuPlan::Read again = plan_on_gpu(context_, some, some_layer);
    for (int span = 0; span < static_cast<int>(some.chunks.size()); ++span)
      for (int head = 0; head < both.q_heads; ++head) {
        SCOPED_TRACE(::testing::Message() << repeat << ", span " << span << ", head " << head);
        const int before = is_alone ? repeat - 4 : span;
        const kernels::HeadProgram program = first.programs[first.place(before, head)];
        PlanBuffer expected;
        expected.segments.assign(first.segments.begin() + program.first,
                                 first.segments.begin() + program.first + program.count);
        expected.columns = first.columns;
        expected.block_bits = first.block_bits;
        ASSERT_NO_FATAL_FAILURE(expect_program(again, span, head, expected,
                                               both.chunks[static_cast<size_t>(before)].tiles()));
        EXPECT_EQ(again.report(span, head).pairs, first.report(before, head).pairs);
      }
  }
}

TEST_F(MinferencePlanGpuFull, PlanOfAMillionTokensFits32Megabytes) {
  for (const int32_t row_tile : {64, 128}) {
    kernels::MinferenceBounds bounds{.q_heads = 32,
                                     .kv_heads = 8,
                                     .head_dim = 128,
                                     .span_count = 1,
                                     .max_rows = 32768,
                                     .max_length = 1 << 20,
                                     .row_tile = row_tile,
                                     .budgets = {.most_columns = 22032, .most_offsets = 24528}};
    const kernels::CudaPlanArrays sizes = kernels::minference_plan_sizes(bounds);
    EXPECT_LE(32 * (sizes.head_segments * sizeof(kernels::PlanSegment) + sizes.head_columns * 4),
              size_t{32} << 20);
    bounds.has_vertical_slash = false;
    bounds.has_block_sparse = true;
    EXPECT_LE(32 * kernels::minference_plan_sizes(bounds).head_words * 4,
              row_tile == 128 ? 16 << 20 : 32 << 20);
  }
}

}  // namespace
}  // namespace kvasir::prefill::minference

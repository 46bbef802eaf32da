// FlexPrefill's plans on a GPU against this room's. Sums differ by rounding, which may decide which
// of nearly equal blocks is taken; a head whose divergence lies at tau would differ as a whole.

#include <gtest/gtest.h>

#include "kernels/attention_planner/flexprefill_plan_cuda.h"
#include "prefill/flexprefill/flexprefill.h"
#include "prefill/gpu_layer.h"

namespace kvasir::prefill::flexprefill {
namespace {

using FlexPrefillPlansGpu = testing::GpuTest;

constexpr int kHeads = 4;

struct Found {
  GpuPlan::Read plan;
  int query_aware = 0;
};

Found plan_on_gpu(const cuda::Context& context, const Options& options, const Layer& layer) {
  kernels::FlexPrefillBounds bounds{.q_heads = kHeads,
                                    .kv_heads = layer.kv_heads,
                                    .head_dim = layer.head_dim,
                                    .span_count = static_cast<int>(layer.chunks.size())};
  for (const Chunk& chunk : layer.chunks) {
    bounds.max_rows = std::max(bounds.max_rows, chunk.rows + 5);
    bounds.max_length = std::max(bounds.max_length, chunk.length() + 90);
  }
  const kernels::CudaPlanArrays sizes = kernels::flexprefill_plan_sizes(bounds);
  const GpuPlan plan(bounds.span_count, kHeads, 128, sizes.head_segments, 0, sizes.head_words);
  const GpuLayer there(layer);
  const testing::DeviceArray<std::byte> workspace(
      kernels::flexprefill_plan_workspace_bytes(bounds));
  kernels::run_flexprefill_plan(context, {.q = there.q.data(),
                                          .q_row_stride = int64_t{kHeads} * layer.head_dim,
                                          .pages = layer.pages(there.pool.data()),
                                          .scale = layer.scale(),
                                          .spans = there.spans.data(),
                                          .page_tables = there.table.data(),
                                          .bounds = bounds,
                                          .gamma = options.gamma,
                                          .tau = options.tau,
                                          .min_blocks = static_cast<int32_t>(options.min_blocks),
                                          .densest = options.densest,
                                          .plan = plan.arrays(),
                                          .workspace = workspace.data()});
  Found found{.plan = plan.read()};
  for (const kernels::HeadReport& report : found.plan.reports)
    found.query_aware += report.is_query_aware;
  return found;
}

// The heads of all chunks. Returns how many are query-aware.
int expect_equal(const cuda::Context& context, const Options& options,
                 const std::vector<Chunk>& chunks, uint32_t seed, Difference& difference) {
  SCOPED_TRACE(::testing::Message() << "seed " << seed << ", gamma " << options.gamma << ", tau "
                                    << options.tau << ", min_blocks " << options.min_blocks);
  Layer layer(chunks, kHeads, seed % 3 ? 2 : 1, seed % 2 ? 128 : 64, seed);
  const Found found = plan_on_gpu(context, options, layer);
  ThreadPool pool(usable_cpus());
  int query_aware = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    Workspace memory;
    PlanBuffer expected;
    query_aware +=
        plan_layer({.pool = pool}, options, layer.queries(i), memory, expected).query_aware_heads;
    for (int head = 0; head < kHeads; ++head) {
      SCOPED_TRACE(::testing::Message() << "span " << i << ", head " << head);
      compare_blocks(found.plan, static_cast<int>(i), head, program_of(expected, head),
                     chunks[i].tiles(), difference);
    }
  }
  EXPECT_EQ(found.query_aware, query_aware);
  return query_aware;
}

TEST_F(FlexPrefillPlansGpu, EqualTheLibrary) {
  Difference difference;
  const std::vector<Chunk> chunks{{.query_offset = 2300, .rows = 700, .row_tile = 128},
                                  {.query_offset = 0, .rows = 1500, .row_tile = 128},
                                  {.query_offset = 800, .rows = 100, .row_tile = 128},
                                  {.query_offset = 1000, .rows = 40, .row_tile = 128}};
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const double gamma = seed == 7 ? 1 : 0.4 + 0.08 * seed;
    // No head, some, all of them are query-aware.
    EXPECT_EQ(
        expect_equal(context_, {.gamma = gamma, .tau = 0, .densest = 1}, chunks, seed, difference),
        0);
    EXPECT_EQ(expect_equal(context_, {.gamma = gamma, .tau = 2, .min_blocks = 2, .densest = 1},
                           chunks, seed, difference),
              kHeads * std::ssize(chunks));
    expect_equal(context_, {.gamma = gamma, .tau = 0.4, .densest = 0.5}, chunks, seed, difference);
  }
  RecordProperty("tiles", static_cast<int>(difference.tiles));
  RecordProperty("different", static_cast<int>(difference.different));
  EXPECT_GT(difference.tiles, 1000);
  EXPECT_LE(difference.different, difference.tiles / 50);
}

TEST_F(FlexPrefillPlansGpu, ShortSpansAreDense) {
  Difference difference;
  for (const int64_t min_blocks : {1, 5})
    for (const int64_t rows : {1, 128, 256, 257, 640, 641})
      expect_equal(context_, {.gamma = 0.3, .tau = 0, .min_blocks = min_blocks, .densest = 1},
                   {{.query_offset = 0, .rows = rows, .row_tile = 128}}, 1, difference);
}

TEST_F(FlexPrefillPlansGpu, PlansAreTheSameEachTimeAndInEveryBatch) {
  const std::vector<Chunk> chunks{{.query_offset = 1100, .rows = 900, .row_tile = 128},
                                  {.query_offset = 90, .rows = 1500, .row_tile = 128}};
  const Options options{.gamma = 0.7, .tau = 0.4, .densest = 1};
  const Layer layer(chunks, kHeads, 2, 64, 9);
  const Found first = plan_on_gpu(context_, options, layer);
  for (int repeat = 0; repeat < 5; ++repeat) {
    context_.overlap = repeat % 2 != 0;
    EXPECT_EQ(plan_on_gpu(context_, options, layer).plan.block_bits, first.plan.block_bits);
  }
  // The second span alone.
  Layer alone = layer;
  alone.chunks = {chunks[1]};
  alone.spans = {layer.spans[1]};
  const Found second = plan_on_gpu(context_, options, alone);
  for (int head = 0; head < kHeads; ++head) {
    const auto place = [&](const GpuPlan::Read& plan, int span) {
      const kernels::HeadProgram program = plan.programs[plan.place(span, head)];
      return plan.segments[static_cast<size_t>(program.first)];
    };
    const kernels::PlanSegment x = place(first.plan, 1), y = place(second.plan, 0);
    ASSERT_EQ(x.count, y.count);
    EXPECT_TRUE(std::equal(first.plan.block_bits.begin() + x.first,
                           first.plan.block_bits.begin() + x.first + chunks[1].tiles() * x.count,
                           second.plan.block_bits.begin() + y.first));
  }
}

}  // namespace
}  // namespace kvasir::prefill::flexprefill

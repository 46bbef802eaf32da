// XAttention's plans on a GPU against this room's, row tile by row tile. Masses differ by rounding,
// which may decide a tile whose masses add up to nearly the share that is wanted.

#include <gtest/gtest.h>

#include "kernels/attention_planner/xattention_plan_cuda.h"
#include "prefill/gpu_layer.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

using XAttentionPlansGpu = testing::GpuTest;

TEST_F(XAttentionPlansGpu, EqualTheLibrary) {
  Difference difference;
  for (uint32_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const int head_dim = seed % 2 ? 128 : 64;
    Layer layer({{.query_offset = 2300, .rows = 700, .row_tile = 128},
                 {.query_offset = 0, .rows = 1500, .row_tile = 128},
                 {.query_offset = 77, .rows = 260, .row_tile = 128}},
                4, seed % 3 ? 2 : 1, head_dim, seed);
    const Options options{.stride = seed % 4 < 2 ? 8 : 16,
                          .threshold = seed == 7 ? 1 : 0.5 + 0.06 * seed,
                          .densest = seed == 3 ? 0.4 : 1};
    const kernels::XAttentionBounds bounds{.q_heads = 4,
                                           .kv_heads = layer.kv_heads,
                                           .span_count = 3,
                                           .max_rows = 1600,
                                           .max_length = 3100,
                                           .stride = options.stride};
    const kernels::CudaPlanArrays sizes = kernels::xattention_plan_sizes(bounds);
    const GpuPlan plan(3, 4, 128, sizes.head_segments, 0, sizes.head_words);
    const GpuLayer there(layer);
    const testing::DeviceArray<float> shares(
        std::vector<float>(4, static_cast<float>(options.threshold)));
    const testing::DeviceArray<std::byte> workspace(
        kernels::xattention_plan_workspace_bytes(bounds));
    kernels::run_xattention_plan(context_, {.q = there.q.data(),
                                            .q_row_stride = int64_t{4} * head_dim,
                                            .pages = layer.pages(there.pool.data()),
                                            .scale = layer.scale(),
                                            .shares = shares.data(),
                                            .spans = there.spans.data(),
                                            .page_tables = there.table.data(),
                                            .bounds = bounds,
                                            .densest = options.densest,
                                            .plan = plan.arrays(),
                                            .workspace = workspace.data()});
    const GpuPlan::Read found = plan.read();
    ThreadPool pool(usable_cpus());
    for (size_t i = 0; i < layer.chunks.size(); ++i) {
      Workspace memory;
      PlanBuffer expected;
      plan_layer({.pool = pool}, options, layer.queries(i), memory, expected);
      for (int head = 0; head < 4; ++head) {
        SCOPED_TRACE(::testing::Message() << "span " << i << ", head " << head);
        compare_blocks(found, static_cast<int>(i), head, program_of(expected, head),
                       layer.chunks[i].tiles(), difference);
      }
    }
  }
  EXPECT_GT(difference.tiles, 300);
  EXPECT_LE(difference.different, difference.tiles / 100);
}

}  // namespace
}  // namespace kvasir::prefill::xattention

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/antidiagonal/antidiagonal_cuda.h"
#include "kernels/attention_planner/block_programs_cuda.h"
#include "kernels/attention_planner/block_sparse_cuda.h"
#include "kernels/attention_planner/mass_blocks_cuda.h"
#include "kernels/attention_planner/xattention_plan_cuda.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {
namespace {

using MassBlocksGpu = testing::GpuTest;
using XAttentionPlanGpu = testing::GpuTest;

struct Plan {
  explicit Plan(int spans, int q_heads, const CudaPlanArrays& sizes)
      : sizes(sizes),
        programs(static_cast<size_t>(spans * q_heads)),
        segments(programs.size() * static_cast<size_t>(sizes.head_segments)),
        bits(programs.size() * static_cast<size_t>(sizes.head_words)),
        reports(programs.size()) {}
  CudaPlanArrays arrays() const {
    CudaPlanArrays arrays = sizes;
    arrays.programs = programs.data();
    arrays.segments = segments.data();
    arrays.block_bits = bits.data();
    arrays.reports = reports.data();
    return arrays;
  }
  CudaPlanArrays sizes;
  testing::DeviceArray<HeadProgram> programs;
  testing::DeviceArray<PlanSegment> segments;
  testing::DeviceArray<uint32_t> bits;
  testing::DeviceArray<HeadReport> reports;
};

// The blocks of 128 keys of a row tile, by the text of mass_blocks_cuda.h.
std::vector<bool> chosen(std::vector<double> masses, int64_t first_own, double share) {
  const double all = std::accumulate(masses.begin(), masses.end(), 0.0);
  std::vector<bool> taken(masses.size(), share >= 1);
  if (share >= 1) return taken;
  double sum = 0;
  const auto take = [&](size_t block) {
    if (!taken[block]) sum += masses[block];
    taken[block] = true;
  };
  take(0);
  for (auto own = static_cast<size_t>(first_own); own < masses.size(); ++own) take(own);
  std::vector<size_t> order(masses.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return masses[a] > masses[b]; });
  for (const size_t block : order) {
    if (sum >= share * all) break;
    take(block);
  }
  return taken;
}

// Expects the plan of one span; masses [q_heads, tiles, row_stride] of all its row tiles.
void expect_plan(const Plan& plan, int span_index, const CudaAttentionSpan& span, int q_heads,
                 const std::vector<float>& masses, int64_t mass_tiles, int64_t row_stride,
                 const std::vector<float>& shares, double densest) {
  const auto programs = plan.programs.read();
  const auto segments = plan.segments.read();
  const auto bits = plan.bits.read();
  const auto reports = plan.reports.read();
  const int64_t length = span.query_offset + span.rows, tiles = (span.rows + 127) / 128;
  for (int head = 0; head < q_heads; ++head) {
    SCOPED_TRACE(::testing::Message() << "span " << span_index << ", head " << head);
    const auto at = static_cast<size_t>(span_index * q_heads + head);
    ASSERT_EQ(programs[at].count, span.rows > 0 ? 1 : 0);
    if (span.rows == 0) continue;
    const PlanSegment segment = segments[static_cast<size_t>(programs[at].first)];
    int64_t pairs = 0, dense_pairs = 0;
    const int64_t words = (length + 2047) / 2048;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t position = span.query_offset + tile * 128;
      const int64_t end = std::min(length, position + 128);
      const auto row = masses.begin() + (head * mass_tiles + tile) * row_stride;
      const std::vector<bool> taken =
          chosen({row, row + (end + 127) / 128}, position / 128, shares[head]);
      for (int64_t bit = 0; bit < words * 32; ++bit) {
        const bool expected = bit * 64 < end && taken[static_cast<size_t>(bit / 2)];
        if (expected) pairs += (end - position) * std::min<int64_t>(64, end - bit * 64);
        const uint32_t word = bits[static_cast<size_t>(
            static_cast<int64_t>(at) * plan.sizes.head_words + tile * words + bit / 32)];
        ASSERT_EQ(word >> bit % 32 & 1, expected ? 1u : 0u) << "tile " << tile << ", bit " << bit;
      }
      dense_pairs += (end - position) * end;
    }
    const bool is_dense = static_cast<double>(pairs) / static_cast<double>(dense_pairs) > densest;
    EXPECT_EQ(reports[at].dense_pairs, dense_pairs);
    EXPECT_EQ(reports[at].pairs, is_dense ? dense_pairs : pairs);
    EXPECT_EQ(reports[at].is_dense, is_dense ? 1 : 0);
    EXPECT_EQ(segment.kind, is_dense ? SegmentKind::kAbsolute : SegmentKind::kBlocks);
    EXPECT_EQ(segment.count, is_dense ? kNoBound : words);
    if (!is_dense) {
      EXPECT_EQ(segment.first, static_cast<int64_t>(at) * plan.sizes.head_words);
    }
  }
}

TEST_F(MassBlocksGpu, TakesTheFewestThatReachTheShare) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto rows = static_cast<int32_t>(1 + random() % 700);
    const auto offset = static_cast<int32_t>(random() % (seed % 3 ? 9000 : 60000));
    const std::vector<CudaAttentionSpan> spans{{}, {.rows = rows, .query_offset = offset}};
    const int64_t tiles = (rows + 127) / 128, blocks = (offset + rows + 127) / 128;
    const std::vector<float> shares{0.9f, 0.3f, 1, 0, 0.99f};
    const int q_heads = static_cast<int>(shares.size());
    std::vector<float> masses;
    std::exponential_distribution<float> mass(2);
    for (int64_t i = 0; i < q_heads * tiles * (blocks + 2); ++i)
      // Few values, so that many are equal, or any.
      masses.push_back(seed % 2 ? static_cast<float>(random() % 4) / 8 : mass(random));
    const testing::DeviceArray<float> masses_there(masses), shares_there(shares);
    const testing::DeviceArray<CudaAttentionSpan> spans_there(spans);
    const Plan plan(
        2, q_heads,
        {.head_segments = 1,
         .head_words = static_cast<int32_t>(block_sparse_words(rows, offset + rows, 128)),
         .row_tile = 128});
    const MassBlocksArgs args{.masses = masses_there.data(),
                              .mass_row_stride = blocks + 2,
                              .shares = shares_there.data(),
                              .q_heads = q_heads,
                              .spans = spans_there.data(),
                              .span = 1,
                              .tiles = static_cast<int>(tiles),
                              .plan = plan.arrays()};
    const BlockProgramsArgs programs{
        .q_heads = q_heads, .spans = spans_there.data(), .span = 1, .plan = plan.arrays()};
    begin_block_programs(context_, programs);
    run_mass_blocks(context_, args);
    end_block_programs(context_, programs, 0.7);
    expect_plan(plan, 1, spans[1], q_heads, masses, tiles, blocks + 2, shares, 0.7);
  }
}

TEST_F(XAttentionPlanGpu, IsTheSelectionFromItsMasses) {
  const AttentionShape shape{.q_heads = 4,
                             .kv_heads = 2,
                             .head_dim = 64,
                             .spans = {{900, 1100}, {0, 0}, {300, 10}},
                             .query_scale = 4};
  const GpuAttentionProblem problem(shape, DType::kBF16);
  GpuAttentionArrays arrays = problem.arrays(problem.spans().size(), 0);
  arrays.spans.write(problem.spans());
  const CudaAttentionArgs attention = problem.args(arrays);
  const std::vector<float> shares{0.9f, 0.5f, 0.97f, 0.8f};
  const testing::DeviceArray<float> shares_there(shares);
  for (const int stride : {8, 16}) {
    SCOPED_TRACE(stride);
    const XAttentionBounds bounds{.q_heads = 4,
                                  .kv_heads = 2,
                                  .span_count = 3,
                                  .max_rows = 900,
                                  .max_length = 2000,
                                  .stride = stride};
    const Plan plan(3, 4, xattention_plan_sizes(bounds));
    const testing::DeviceArray<std::byte> workspace(xattention_plan_workspace_bytes(bounds));
    run_xattention_plan(context_, {.q = attention.q,
                                   .q_row_stride = attention.q_row_stride,
                                   .pages = attention.pages,
                                   .scale = attention.scale,
                                   .shares = shares_there.data(),
                                   .spans = attention.spans,
                                   .page_tables = attention.page_tables,
                                   .bounds = bounds,
                                   .densest = 0.9,
                                   .plan = plan.arrays(),
                                   .workspace = workspace.data()});
    for (int span = 0; span < 3; ++span) {
      const CudaAttentionSpan& own = problem.spans()[static_cast<size_t>(span)];
      const int64_t tiles = (own.rows + 127) / 128;
      const int64_t length = own.query_offset + own.rows, blocks = (length + 127) / 128;
      const testing::DeviceArray<float> masses(static_cast<size_t>(4 * tiles * blocks));
      const testing::DeviceArray<std::byte> memory(
          antidiagonal_workspace_bytes(4, 2, stride, static_cast<int>(tiles), length));
      run_antidiagonal(context_, {.q = attention.q,
                                  .q_row_stride = attention.q_row_stride,
                                  .pages = attention.pages,
                                  .q_heads = 4,
                                  .scale = attention.scale,
                                  .stride = stride,
                                  .span = attention.spans + span,
                                  .page_tables = attention.page_tables,
                                  .tiles = static_cast<int>(tiles),
                                  .max_length = length,
                                  .masses = masses.data(),
                                  .mass_row_stride = blocks,
                                  .workspace = memory.data()});
      expect_plan(plan, span, own, 4, masses.read(), tiles, blocks, shares, 0.9);
    }
  }
}

}  // namespace
}  // namespace kvasir::kernels

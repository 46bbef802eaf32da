#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/antidiagonal/antidiagonal.h"
#include "kernels/antidiagonal/antidiagonal_cuda.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {
namespace {

using AntidiagonalGpu = testing::GpuTest;
using AntidiagonalGpuFull = testing::GpuTest;

constexpr int64_t kGap = 3;  // between rows of masses; stays as it is

// The masses [q_heads, tiles, stride] of some row tiles of a span.
std::vector<float> masses_of(const cuda::Context& context, const GpuAttentionProblem& problem,
                             size_t span, int stride, int first_tile, int tiles) {
  GpuAttentionArrays arrays = problem.arrays(problem.spans().size(), 0);
  arrays.spans.write(problem.spans());
  const CudaAttentionArgs attention = problem.args(arrays);
  const int64_t length = problem.spans()[span].query_offset + problem.spans()[span].rows;
  const int64_t row_stride = (length + 127) / 128 + kGap;
  const testing::DeviceArray<float> masses(
      static_cast<size_t>(attention.q_heads * tiles * row_stride));
  const testing::DeviceArray<std::byte> workspace(antidiagonal_workspace_bytes(
      attention.q_heads, attention.pages.kv_heads, stride, tiles, length));
  run_antidiagonal(context, {.q = attention.q,
                             .q_row_stride = attention.q_row_stride,
                             .pages = attention.pages,
                             .q_heads = attention.q_heads,
                             .scale = attention.scale,
                             .stride = stride,
                             .span = attention.spans + span,
                             .page_tables = attention.page_tables,
                             .first_tile = first_tile,
                             .tiles = tiles,
                             .max_length = length,
                             .masses = masses.data(),
                             .mass_row_stride = row_stride,
                             .workspace = workspace.data()});
  return masses.read();
}

// Masses are sums of at most 16 shares, each of at most 1: an absolute bound fits. Scores are sums
// of up to 4096 products in f32, cut off by the tensor cores at 2^-22 or so of their size, which is
// below 20 with these shapes.
void expect_close(const cuda::Context& context, const GpuAttentionProblem& problem, int stride) {
  ThreadPool pool(usable_cpus());
  const AttentionProblem& exact = problem.exact();
  const AttentionShape& shape = problem.shape();
  const int group = shape.q_heads / shape.kv_heads;
  for (size_t i = 0; i < problem.spans().size(); ++i) {
    const AttentionSpan span = exact.spans()[i];
    const int64_t tiles = (span.rows + 127) / 128;
    const int64_t blocks = (span.query_offset + span.rows + 127) / 128;
    // One tile more than there is, and some left out in front.
    const int first_tile = static_cast<int>(tiles / 3);
    const int count = static_cast<int>(tiles) - first_tile + 1;
    const std::vector<float> found = masses_of(context, problem, i, stride, first_tile, count);
    for (int kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      std::vector<int32_t> heads(static_cast<size_t>(group));
      std::iota(heads.begin(), heads.end(), kv_head * group);
      std::vector<float> expected(static_cast<size_t>(group * tiles * blocks));
      run_antidiagonal_reference({.pool = pool},
                                 {.q = exact.q() + span.first_row * exact.q_stride() * 4,
                                  .q_row_stride = exact.q_stride(),
                                  .rows = span.rows,
                                  .query_offset = span.query_offset,
                                  .pages = {.base = const_cast<std::byte*>(exact.pool()),
                                            .page_bytes = exact.page_bytes(),
                                            .dtype = DType::kF32,
                                            .kv_heads = shape.kv_heads,
                                            .head_dim = shape.head_dim},
                                  .page_table = span.page_table,
                                  .kv_head = kv_head,
                                  .heads = heads,
                                  .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
                                  .stride = stride,
                                  .masses = expected.data(),
                                  .mass_row_stride = blocks});
      for (int head = 0; head < group; ++head)
        for (int tile = 0; tile < count; ++tile)
          for (int64_t block = 0; block < blocks + kGap; ++block) {
            const float value = found[static_cast<size_t>(
                ((kv_head * group + head) * count + tile) * (blocks + kGap) + block)];
            if (block >= blocks || first_tile + tile >= tiles) {
              ASSERT_EQ(std::bit_cast<uint32_t>(value), ~0u) << "tile " << tile << ", " << block;
              continue;
            }
            const double x =
                expected[static_cast<size_t>((head * tiles + first_tile + tile) * blocks + block)];
            ASSERT_NEAR(value, x, 5e-5 * (1 + x))
                << "span " << i << ", head " << kv_head * group + head << ", tile "
                << first_tile + tile << ", block " << block;
          }
    }
  }
}

const AttentionShape kShapes[] = {
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{1, 0}, {8, 0}, {17, 5}}},
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{300, 0}, {128, 700}}},
    {.q_heads = 6, .kv_heads = 2, .head_dim = 64, .spans = {{1000, 333}}, .query_scale = 3},
    {.q_heads = 3, .kv_heads = 3, .head_dim = 80, .spans = {{200, 64}}, .q_row_gap = 8},
    {.q_heads = 2, .kv_heads = 1, .head_dim = 256, .spans = {{130, 1}}, .page_gap_bytes = 64},
    {.q_heads = 5, .kv_heads = 1, .head_dim = 16, .spans = {{129, 2100}}, .key_mean = 1},
};

TEST_F(AntidiagonalGpu, EqualsTheDefinition) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const AttentionShape& shape : kShapes)
      for (const int stride : {8, 16}) {
        SCOPED_TRACE(::testing::Message()
                     << dtype_name(dtype) << ", stride " << stride << ", " << shape);
        expect_close(context_, GpuAttentionProblem(shape, dtype), stride);
      }
}

TEST_F(AntidiagonalGpu, BitsDependNeitherOnTheTilesBesideNorOnTheRun) {
  const AttentionShape shape{
      .q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{700, 900}}, .query_scale = 2};
  const GpuAttentionProblem problem(shape, DType::kBF16);
  const int64_t row_stride = (1600 + 127) / 128 + kGap;
  const std::vector<float> all = masses_of(context_, problem, 0, 8, 0, 6);
  for (int tile = 0; tile < 6; ++tile) {
    const std::vector<float> alone = masses_of(context_, problem, 0, 8, tile, 1);
    for (int head = 0; head < 4; ++head)
      ASSERT_EQ(std::memcmp(alone.data() + head * row_stride,
                            all.data() + (head * 6 + tile) * row_stride, row_stride * 4),
                0)
          << "tile " << tile << ", head " << head;
  }
}

TEST_F(AntidiagonalGpuFull, LongPrompts) {
  const AttentionShape shape{.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{260, 30000}}};
  for (const int stride : {8, 16})
    expect_close(context_, GpuAttentionProblem(shape, DType::kBF16), stride);
}

}  // namespace
}  // namespace kvasir::kernels

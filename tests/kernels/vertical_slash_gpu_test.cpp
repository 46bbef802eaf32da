#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/paged_attention_gpu_problem.h"
#include "kernels/vertical_slash/vertical_slash.h"
#include "kernels/vertical_slash/vertical_slash_cuda.h"

namespace kvasir::kernels {
namespace {

using VerticalSlashGpu = testing::GpuTest;
using VerticalSlashGpuFull = testing::GpuTest;

struct Sums {
  std::vector<float> columns, offsets;  // [units * group, stride]
  int64_t stride = 0;

  friend bool operator==(const Sums& a, const Sums& b) {
    return std::memcmp(a.columns.data(), b.columns.data(), a.columns.size() * 4) == 0 &&
           std::memcmp(a.offsets.data(), b.offsets.data(), a.offsets.size() * 4) == 0;
  }
};

// `heads` empty: all are estimated.
Sums estimate(const cuda::Context& context, const GpuAttentionProblem& problem, int first_unit,
              int units, const std::vector<HeadBudget>& heads = {}) {
  const GpuAttentionArrays arrays = [&] {
    GpuAttentionArrays made = problem.arrays(problem.spans().size(), 0);
    made.spans.write(problem.spans());
    return made;
  }();
  const CudaAttentionArgs attention = problem.args(arrays);
  const int group = problem.shape().q_heads / problem.shape().kv_heads;
  Sums sums;
  sums.stride = problem.max_length() + 3;
  const auto size = static_cast<size_t>(units * group * sums.stride);
  const testing::DeviceArray<float> columns(size), offsets(size);
  const testing::DeviceArray<HeadBudget> budgets(heads);
  const testing::DeviceArray<std::byte> workspace(
      vertical_slash_workspace_bytes(group, units, problem.max_length()));
  run_vertical_slash(context, {.q = attention.q,
                               .q_row_stride = attention.q_row_stride,
                               .pages = attention.pages,
                               .q_heads = attention.q_heads,
                               .scale = attention.scale,
                               .heads = heads.empty() ? nullptr : budgets.data(),
                               .spans = attention.spans,
                               .page_tables = attention.page_tables,
                               .first_unit = first_unit,
                               .units = units,
                               .max_length = problem.max_length(),
                               .column_sums = columns.data(),
                               .offset_sums = offsets.data(),
                               .sums_row_stride = sums.stride,
                               .workspace = workspace.data()});
  sums.columns = columns.read();
  sums.offsets = offsets.read();
  return sums;
}

int units_of(const GpuAttentionProblem& problem) {
  return static_cast<int>(problem.spans().size()) * problem.shape().kv_heads;
}

bool is_untouched(float value) { return std::bit_cast<uint32_t>(value) == ~0u; }

// Against the definition in f64. Shares of at most 64 rows, each of at most 1: an absolute bound
// fits. Scores are f32, cut off by the tensor cores at 2^-22 or so of their size (up to 100 with
// these scales), and a weight's error is its score's.
void expect_close(const GpuAttentionProblem& problem, const Sums& found) {
  ThreadPool pool(usable_cpus());
  const AttentionProblem& exact = problem.exact();
  const AttentionShape& shape = problem.shape();
  const int group = shape.q_heads / shape.kv_heads;
  const double bound = 4e-5 * std::max(1.0f, shape.query_scale);
  for (size_t i = 0; i < problem.spans().size(); ++i) {
    const AttentionSpan span = exact.spans()[i];
    const int64_t length = span.query_offset + span.rows;
    for (int kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      SCOPED_TRACE(::testing::Message() << "span " << i << ", KV head " << kv_head);
      std::vector<int32_t> heads(static_cast<size_t>(group));
      std::iota(heads.begin(), heads.end(), kv_head * group);
      std::vector<float> columns(static_cast<size_t>(group * length)), offsets = columns;
      if (span.rows > 0)
        run_vertical_slash_reference({.pool = pool},
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
                                      .column_sums = columns.data(),
                                      .offset_sums = offsets.data(),
                                      .sums_row_stride = length});
      for (int head = 0; head < group; ++head) {
        const int64_t row = (static_cast<int64_t>(i) * shape.kv_heads + kv_head) * group + head;
        for (int64_t at = 0; at < found.stride; ++at) {
          const float column = found.columns[row * found.stride + at];
          const float offset = found.offsets[row * found.stride + at];
          if (at >= length || span.rows == 0) {
            ASSERT_TRUE(is_untouched(column) && is_untouched(offset)) << head << " " << at;
            continue;
          }
          const double x = columns[head * length + at], y = offsets[head * length + at];
          ASSERT_NEAR(column, x, bound * (1 + x)) << "head " << head << ", column " << at;
          ASSERT_NEAR(offset, y, bound * (1 + y)) << "head " << head << ", offset " << at;
        }
      }
    }
  }
}

const AttentionShape kShapes[] = {
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{1, 0}}},
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{1, 700}}},
    {.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{13, 0}, {0, 70}, {2, 63}}},
    {.q_heads = 4, .kv_heads = 2, .head_dim = 96, .spans = {{63, 1}}, .q_row_gap = 8},
    {.q_heads = 8, .kv_heads = 1, .head_dim = 64, .spans = {{64, 0}}, .query_scale = 3},
    {.q_heads = 7, .kv_heads = 1, .head_dim = 128, .spans = {{65, 0}}, .q_row_gap = 32},
    {.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{100, 411}}, .page_gap_bytes = 64},
    {.q_heads = 2, .kv_heads = 2, .head_dim = 80, .spans = {{512, 0}, {70, 1000}}},
    {.q_heads = 3, .kv_heads = 1, .head_dim = 256, .spans = {{30, 545}}, .query_scale = 4},
    {.q_heads = 2, .kv_heads = 1, .head_dim = 176, .spans = {{200, 900}}},
    {.q_heads = 3, .kv_heads = 1, .head_dim = 16, .spans = {{513, 0}}, .key_mean = 1},
    // More than one range, whole and not.
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{200, 1900}, {1024, 0}}},
    {.q_heads = 5, .kv_heads = 1, .head_dim = 64, .spans = {{64, 2033}}, .query_scale = 2},
    {.q_heads = 2, .kv_heads = 1, .head_dim = 256, .spans = {{61, 1024}}},
};

TEST_F(VerticalSlashGpu, EqualsTheDefinition) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const AttentionShape& shape : kShapes) {
      SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << shape);
      const GpuAttentionProblem problem(shape, dtype);
      expect_close(problem, estimate(context_, problem, 0, units_of(problem)));
    }
}

TEST_F(VerticalSlashGpu, BitsDependNeitherOnTheBatchNorOnTheRun) {
  const AttentionShape shape{.q_heads = 8,
                             .kv_heads = 2,
                             .head_dim = 64,
                             .spans = {{300, 1000}, {40, 0}, {90, 2000}},
                             .query_scale = 2};
  const GpuAttentionProblem problem(shape, DType::kBF16);
  const Sums all = estimate(context_, problem, 0, units_of(problem));
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(estimate(context_, problem, 0, units_of(problem)) == all) << i;
  for (int unit = 0; unit < units_of(problem); ++unit) {
    const Sums alone = estimate(context_, problem, unit, 1);
    const auto size = static_cast<int64_t>(alone.columns.size());
    EXPECT_EQ(std::memcmp(alone.columns.data(), all.columns.data() + unit * size, size * 4), 0);
    EXPECT_EQ(std::memcmp(alone.offsets.data(), all.offsets.data() + unit * size, size * 4), 0);
  }
}

TEST_F(VerticalSlashGpu, LeavesOutOtherHeads) {
  const AttentionShape shape{.q_heads = 6, .kv_heads = 1, .head_dim = 128, .spans = {{80, 1100}}};
  const GpuAttentionProblem problem(shape, DType::kBF16);
  std::vector<HeadBudget> heads(6);
  heads[1].kind = HeadKind::kAShape;
  heads[4].kind = heads[5].kind = HeadKind::kBlockSparse;
  const Sums all = estimate(context_, problem, 0, 1);
  const Sums some = estimate(context_, problem, 0, 1, heads);
  for (size_t i = 0; i < all.columns.size(); ++i) {
    const size_t head = i / static_cast<size_t>(all.stride);
    const bool is_out = heads[head].kind != HeadKind::kVerticalSlash;
    const float columns = is_out ? std::bit_cast<float>(~0u) : all.columns[i];
    const float offsets = is_out ? std::bit_cast<float>(~0u) : all.offsets[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(some.columns[i]), std::bit_cast<uint32_t>(columns)) << i;
    ASSERT_EQ(std::bit_cast<uint32_t>(some.offsets[i]), std::bit_cast<uint32_t>(offsets)) << i;
  }
}

TEST_F(VerticalSlashGpuFull, LongPrompts) {
  for (const AttentionShape& shape : {
           AttentionShape{.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{64, 40000}}},
           AttentionShape{.q_heads = 8,
                          .kv_heads = 1,
                          .head_dim = 64,
                          .spans = {{100, 299950}, {1000, 20000}},
                          .query_scale = 2},
       }) {
    SCOPED_TRACE(::testing::Message() << shape);
    const GpuAttentionProblem problem(shape, DType::kBF16);
    expect_close(problem, estimate(context_, problem, 0, units_of(problem)));
  }
}

}  // namespace
}  // namespace kvasir::kernels

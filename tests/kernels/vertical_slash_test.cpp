#include "kernels/vertical_slash/vertical_slash.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/paged_attention_problem.h"

namespace kvasir::kernels {
namespace {

struct Sums {
  std::vector<float> columns, offsets;  // [heads, stride]
  int64_t stride = 0;
  int64_t length = 0;
};

constexpr int64_t kGap = 5;  // between rows of sums; stays as it is

// The span's estimate for `heads` of KV head `kv_head`; `isa` null: the reference.
Sums estimate(const AttentionProblem& problem, int kv_head, const std::vector<int32_t>& heads,
              const Isa* isa, int threads = 1) {
  ThreadPool pool(threads);
  const CpuContext context{.pool = pool};
  const AttentionSpan span = problem.spans()[0];
  const AttentionShape& shape = problem.shape();
  Sums sums;
  sums.length = span.query_offset + span.rows;
  sums.stride = sums.length + kGap;
  sums.columns.assign(heads.size() * static_cast<size_t>(sums.stride), -7.0f);
  sums.offsets = sums.columns;
  const AlignedBytes workspace = aligned_bytes(vertical_slash_workspace_bytes(
      static_cast<int>(heads.size()), shape.head_dim, sums.length, threads));
  const VerticalSlashArgs args{.q = problem.q(),
                               .q_row_stride = problem.q_stride(),
                               .rows = span.rows,
                               .query_offset = span.query_offset,
                               .pages = {.base = const_cast<std::byte*>(problem.pool()),
                                         .page_bytes = problem.page_bytes(),
                                         .dtype = problem.dtype(),
                                         .kv_heads = shape.kv_heads,
                                         .head_dim = shape.head_dim},
                               .page_table = span.page_table,
                               .kv_head = kv_head,
                               .heads = heads,
                               .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
                               .column_sums = sums.columns.data(),
                               .offset_sums = sums.offsets.data(),
                               .sums_row_stride = sums.stride,
                               .workspace = workspace.get()};
  if (isa)
    run_vertical_slash(context, args, *isa);
  else
    run_vertical_slash_reference(context, args);
  return sums;
}

std::vector<int32_t> heads_of(const AttentionShape& shape, int kv_head) {
  std::vector<int32_t> heads(static_cast<size_t>(shape.q_heads / shape.kv_heads));
  std::iota(heads.begin(), heads.end(), kv_head * static_cast<int>(heads.size()));
  return heads;
}

// Sums of shares of at most 64 rows, each of which is at most 1: an absolute bound fits. f32 scores
// of magnitude 20 have errors of about 1e-5, and so have their weights.
void expect_close(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], 2e-5 * (1 + std::abs(expected[i]))) << i;
}

const AttentionShape kShapes[] = {
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{1, 0}}},
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{1, 700}}},
    {.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{13, 0}}},
    {.q_heads = 4, .kv_heads = 2, .head_dim = 96, .spans = {{63, 1}}},
    {.q_heads = 8, .kv_heads = 1, .head_dim = 64, .spans = {{64, 0}}, .query_scale = 3},
    {.q_heads = 7, .kv_heads = 1, .head_dim = 128, .spans = {{65, 0}}, .q_row_gap = 32},
    {.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{100, 411}}, .page_gap_bytes = 64},
    {.q_heads = 2, .kv_heads = 2, .head_dim = 80, .spans = {{512, 0}}},
    {.q_heads = 2, .kv_heads = 1, .head_dim = 256, .spans = {{30, 545}}, .query_scale = 4},
    {.q_heads = 3, .kv_heads = 1, .head_dim = 37, .spans = {{513, 0}}, .key_mean = 1},
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{200, 1900}}},
};

TEST(VerticalSlash, EqualsTheReferenceOnEveryInstructionSet) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const AttentionShape& shape : kShapes) {
      const AttentionProblem problem(shape, dtype);
      SCOPED_TRACE(testing::Message()
                   << dtype_name(dtype) << " d " << shape.head_dim << " rows "
                   << shape.spans[0].rows << " after " << shape.spans[0].query_offset);
      const int kv_head = shape.kv_heads - 1;
      const auto heads = heads_of(shape, kv_head);
      const Sums expected = estimate(problem, kv_head, heads, nullptr);
      for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
        if (!cpu_supports(isa)) continue;
        SCOPED_TRACE(static_cast<int>(isa));
        const Sums found = estimate(problem, kv_head, heads, &isa);
        expect_close(found.columns, expected.columns);
        expect_close(found.offsets, expected.offsets);
      }
    }
  }
}

TEST(VerticalSlash, EveryQueryIsSharedOutOnce) {
  for (const AttentionShape& shape : kShapes) {
    const AttentionProblem problem(shape, DType::kBF16);
    const Sums sums = estimate(problem, 0, heads_of(shape, 0), &kEveryIsa);
    const double queries = static_cast<double>(std::min<int64_t>(shape.spans[0].rows, 64));
    for (size_t head = 0; head < heads_of(shape, 0).size(); ++head)
      for (const auto& all : {sums.columns, sums.offsets}) {
        const auto begin = all.begin() + static_cast<int64_t>(head) * sums.stride;
        EXPECT_NEAR(std::accumulate(begin, begin + sums.length, 0.0), queries, 1e-4 * queries);
        for (int64_t i = 0; i < kGap; ++i) EXPECT_EQ(begin[sums.length + i], -7.0f);
      }
  }
}

TEST(VerticalSlash, BitsDependNeitherOnHeadsBesideNorOnThreads) {
  const AttentionShape shape{
      .q_heads = 4, .kv_heads = 1, .head_dim = 64, .spans = {{150, 2000}}, .query_scale = 2};
  const AttentionProblem problem(shape, DType::kBF16);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (!cpu_supports(isa)) continue;
    const Sums all = estimate(problem, 0, {0, 1, 2, 3}, &isa);
    for (const int threads : {2, 3}) {
      const Sums again = estimate(problem, 0, {0, 1, 2, 3}, &isa, threads);
      EXPECT_EQ(again.columns, all.columns);
      EXPECT_EQ(again.offsets, all.offsets);
    }
    const Sums picked = estimate(problem, 0, {3, 1}, &isa, 2);
    for (const auto& [at, head] : {std::pair{0, 3}, std::pair{1, 1}})
      for (int64_t i = 0; i < all.length; ++i) {
        EXPECT_EQ(picked.columns[at * all.stride + i], all.columns[head * all.stride + i]);
        EXPECT_EQ(picked.offsets[at * all.stride + i], all.offsets[head * all.stride + i]);
      }
  }
}

}  // namespace
}  // namespace kvasir::kernels

#include "kernels/paged_attention/prefill_attention_table.h"
#include "kernels/paged_attention_gpu_cases.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {
namespace {

constexpr const PrefillImplementation& kOp = kPrefillAttentionSm90;

class PrefillAttentionSm90 : public testing::GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped() && !kOp.supports({.head_dim = 64}, context_.compute_capability))
      GTEST_SKIP() << "compute capability " << context_.compute_capability << ", not 90";
  }
  bool supports(const AttentionShape& shape) const {
    return kOp.supports({.head_dim = shape.head_dim}, context_.compute_capability);
  }
  GpuAttentionResult run(const GpuAttentionProblem& problem,
                         const std::vector<CudaAttentionSpan>& spans, int runs = 1) const {
    const size_t bytes = kOp.workspace_bytes(
        problem.desc(), context_, static_cast<int>(spans.size()), problem.max_rows(), false);
    return problem.run(spans, bytes, [&](const CudaAttentionArgs& args) {
      kOp.build(context_, args);
      for (int i = 0; i < runs; ++i) kOp.run(context_, args);
    });
  }
  void expect_right(const std::vector<AttentionShape>& shapes) const {
    for (const DType dtype : {DType::kBF16, DType::kF16})
      for (const AttentionShape& shape : shapes) {
        if (!supports(shape)) continue;
        SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << shape);
        const GpuAttentionProblem problem(shape, dtype);
        expect_close(problem, problem.expected(context_), run(problem, problem.spans()));
        if (HasFatalFailure()) return;
      }
  }
};
using PrefillAttentionSm90Full = PrefillAttentionSm90;

TEST_F(PrefillAttentionSm90, QuickCases) { expect_right(quick_prefill_cases()); }
TEST_F(PrefillAttentionSm90Full, Cases) { expect_right(prefill_cases()); }
TEST_F(PrefillAttentionSm90Full, LongCases) { expect_right(long_prefill_cases()); }

// More heads on a KV head than are stacked, and numbers of them that do not fill a tile.
TEST_F(PrefillAttentionSm90Full, GroupsOfAnySize) {
  std::vector<AttentionShape> shapes;
  for (const int group : {5, 6, 9, 16, 17, 24, 71})
    for (const int head_dim : {64, 128})
      shapes.push_back({.q_heads = 2 * group,
                        .kv_heads = 2,
                        .head_dim = head_dim,
                        .spans = {{31, 100}, {2, 0}}});
  expect_right(shapes);
}

// More spans than the list's threads.
TEST_F(PrefillAttentionSm90Full, ManySpans) {
  AttentionShape shape{.q_heads = 2, .kv_heads = 1, .head_dim = 64};
  for (int64_t i = 0; i < 700; ++i) shape.spans.push_back({i * 7 % 5, i * 31 % 150});
  expect_right({shape});
}

// A row's bits depend on neither the batch nor the chunks.
TEST_F(PrefillAttentionSm90, RowsDoNotDependOnTheirNeighbours) {
  for (const int head_dim : {64, 128})
    for (const int64_t window : {0, 150}) {
      const AttentionShape shape{.q_heads = 3,
                                 .kv_heads = 1,
                                 .head_dim = head_dim,
                                 .spans = {{211, 130}, {5, 300}, {1, 77}},
                                 .window = window,
                                 .query_scale = 3};
      SCOPED_TRACE(::testing::Message() << shape);
      const GpuAttentionProblem problem(shape, DType::kBF16);
      const GpuAttentionResult whole = run(problem, problem.spans());
      for (const int rows : {1, 7, 64, 100}) {
        SCOPED_TRACE(::testing::Message() << "chunks of " << rows);
        EXPECT_TRUE(run(problem, problem.chunks(rows)) == whole);
      }
      std::vector<CudaAttentionSpan> reversed = problem.chunks(30);
      std::reverse(reversed.begin(), reversed.end());
      EXPECT_TRUE(run(problem, reversed) == whole);
    }
}

// The layers of a step: many runs over one list, each beginning while the one before it ends.
TEST_F(PrefillAttentionSm90, RunsAfterOneBuild) {
  const AttentionShape shape{.q_heads = 4, .kv_heads = 2, .spans = {{300, 20}, {90, 0}}};
  const GpuAttentionProblem problem(shape, DType::kF16);
  const GpuAttentionResult once = run(problem, problem.spans());
  context_.overlap = true;
  EXPECT_TRUE(run(problem, problem.spans(), 1) == once);
  EXPECT_TRUE(run(problem, problem.spans(), 5) == once);
}

TEST_F(PrefillAttentionSm90, CountsPairs) {
  const AttentionDesc desc{.q_heads = 8, .kv_heads = 2, .head_dim = 128};
  // Tiles of 32 queries and 128 keys.
  EXPECT_EQ(kOp.pairs(desc, 0, 0, 0), 0u);
  EXPECT_EQ(kOp.pairs(desc, 0, 1, 0), 128u);
  EXPECT_EQ(kOp.pairs(desc, 0, 256, 0), 128u * 128 + 128u * 256);
  EXPECT_EQ(kOp.pairs(desc, 120, 40, 0), 32u * 256 + 8u * 256);
  EXPECT_EQ(kOp.pairs(desc, 1023, 1, 129), 256u);
  EXPECT_EQ(kOp.pairs(desc, 1023, 1, 128), 128u);
}

}  // namespace
}  // namespace kvasir::kernels

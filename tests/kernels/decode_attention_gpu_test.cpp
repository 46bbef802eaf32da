#include "kernels/late_copy.h"
#include "kernels/paged_attention_gpu_cases.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {
namespace {

class DecodeAttention : public testing::GpuTest {
 protected:
  size_t workspace_bytes(const GpuAttentionProblem& problem) const {
    return decode_attention_workspace_bytes(
        problem.desc(), context_, static_cast<int>(problem.spans().size()), problem.max_length());
  }
  void build_and_run(const CudaAttentionArgs& args) const {
    build_decode_attention(context_, args);
    run_decode_attention(context_, args);
  }

  GpuAttentionResult result(const GpuAttentionProblem& problem) const {
    return problem.run(problem.spans(), workspace_bytes(problem),
                       [&](const CudaAttentionArgs& args) { build_and_run(args); });
  }

  void check(const std::vector<AttentionShape>& shapes, DType dtype) const {
    for (const AttentionShape& shape : shapes) {
      SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << shape);
      const GpuAttentionProblem problem(shape, dtype);
      expect_close(problem, problem.expected(context_), result(problem));
      if (HasFailure()) return;
    }
  }
};

TEST_F(DecodeAttention, QuickCases) {
  check(quick_decode_cases(), DType::kBF16);
  check(quick_decode_cases(), DType::kF16);
}

using DecodeAttentionFull = DecodeAttention;

TEST_F(DecodeAttentionFull, CasesInBf16) { check(decode_cases(), DType::kBF16); }
TEST_F(DecodeAttentionFull, CasesInF16) { check(decode_cases(), DType::kF16); }
TEST_F(DecodeAttentionFull, LongCases) { check(long_decode_cases(), DType::kBF16); }

// A step may compute a row by either.
TEST_F(DecodeAttentionFull, AgreesWithPrefillAttention) {
  for (const int head_dim : {64, 80, 128}) {
    SCOPED_TRACE(::testing::Message() << "head_dim " << head_dim);
    const GpuAttentionProblem problem({.q_heads = 8,
                                       .kv_heads = 2,
                                       .head_dim = head_dim,
                                       .spans = {{1, 900}, {1, 64}, {1, 0}},
                                       .window = 700},
                                      DType::kBF16);
    const GpuAttentionResult by_prefill = problem.run(
        problem.spans(),
        prefill_attention_workspace_bytes(problem.desc(), context_, 3, problem.max_rows()),
        [&](const CudaAttentionArgs& args) {
          build_prefill_attention(context_, args);
          run_prefill_attention(context_, args);
        });
    AttentionResult expected{.lse = by_prefill.lse};
    for (const uint16_t value : by_prefill.out) {
      const float wide = bf16_to_f32(value);
      const auto* bytes = reinterpret_cast<const std::byte*>(&wide);
      expected.out.insert(expected.out.end(), bytes, bytes + sizeof(wide));
    }
    expect_close(problem, expected, result(problem));
  }
}

// Results are of the same bits each time, whether the plan is built anew or not, whether a run
// begins before the one before it has ended or not. The first span is shared by so many blocks that
// they are added up in two levels.
TEST_F(DecodeAttention, SameBitsEachTime) {
  const GpuAttentionProblem problem({.q_heads = 8,
                                     .kv_heads = 2,
                                     .head_dim = 128,
                                     .spans = {{1, 6000}, {0, 7}, {1, 5}, {1, 700}, {1, 701}}},
                                    DType::kBF16);
  const GpuAttentionResult expected = result(problem);
  expect_close(problem, problem.expected_exact(), expected);
  GpuAttentionArrays arrays = problem.arrays(problem.spans().size(), workspace_bytes(problem));
  arrays.spans.write(problem.spans());
  context_.overlap = true;
  for (int i = 0; i < 20; ++i) {
    if (i % 5 == 0) build_decode_attention(context_, problem.args(arrays));
    KVASIR_CUDA(cudaMemsetAsync(arrays.out.data(), 0xff, arrays.out.size() * 2, context_.stream));
    for (int j = 0; j < 3; ++j) run_decode_attention(context_, problem.args(arrays));
    ASSERT_EQ(problem.read(arrays), expected) << "run " << i;
  }
}

// What is captured once runs with whatever spans lie in device memory later.
TEST_F(DecodeAttention, GraphsReplayWithOtherLengths) {
  constexpr int kSpans = 6;
  const GpuAttentionProblem problem({.q_heads = 8,
                                     .kv_heads = 2,
                                     .head_dim = 64,
                                     .spans = std::vector<SpanShape>(kSpans, {1, 1999})},
                                    DType::kF16);
  const std::vector<std::vector<int32_t>> steps = {
      {1999, 0, 63, 64, 700, 5}, {-1, -1, -1, -1, -1, -1}, {3, -1, -1, 1999, 1999, 1999},
      {-1, 1500, -1, 9, -1, 10}, {0, 0, 0, 0, 0, 0},
  };
  context_.overlap = true;
  GpuAttentionArrays arrays = problem.arrays(kSpans, workspace_bytes(problem));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  KVASIR_CUDA(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
  build_decode_attention(context_, problem.args(arrays));
  for (int layer = 0; layer < 3; ++layer) run_decode_attention(context_, problem.args(arrays));
  KVASIR_CUDA(cudaStreamEndCapture(context_.stream, &graph));
  KVASIR_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  for (const std::vector<int32_t>& offsets : steps) {
    std::vector<CudaAttentionSpan> spans = problem.spans();
    for (int i = 0; i < kSpans; ++i) {
      spans[i].rows = offsets[i] < 0 ? 0 : 1;
      spans[i].query_offset = std::max(offsets[i], 0);
    }
    const GpuAttentionResult expected =
        problem.run(spans, arrays.workspace.size(),
                    [&](const CudaAttentionArgs& args) { build_and_run(args); });
    arrays.spans.write(spans);
    KVASIR_CUDA(cudaMemset(arrays.out.data(), 0xff, arrays.out.size() * 2));
    KVASIR_CUDA(cudaMemset(arrays.lse.data(), 0xff, arrays.lse.size() * 4));
    KVASIR_CUDA(cudaGraphLaunch(replay, context_.stream));
    ASSERT_EQ(problem.read(arrays), expected) << "offset of span 0: " << offsets[0];
  }
  KVASIR_CUDA(cudaGraphExecDestroy(replay));
  KVASIR_CUDA(cudaGraphDestroy(graph));
}

// The kernel before a run writes the newest keys and values, while the run has begun already.
TEST_F(DecodeAttention, OverlapsWithTheKernelThatWritesTheNewestKeys) {
  for (const int32_t position : {0, 15, 64, 1000, 4991}) {
    const GpuAttentionProblem problem(
        {.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{1, position}}}, DType::kBF16);
    SCOPED_TRACE(::testing::Message() << "position " << position);
    const GpuAttentionResult expected = result(problem);
    cuda::Context context = context_;
    context.overlap = true;
    GpuAttentionArrays arrays = problem.arrays(1, workspace_bytes(problem));
    arrays.spans.write(problem.spans());
    const CudaAttentionArgs args = problem.args(arrays);
    uint32_t id = 0;
    KVASIR_CUDA(cudaMemcpy(&id, args.page_tables + problem.spans()[0].first_page + position / 64,
                           sizeof(id), cudaMemcpyDeviceToHost));
    std::byte* page = args.pages.page(id);
    const size_t row_bytes = 128 * 2, piece_bytes = 64 * row_bytes, pieces = 2 * 2;
    const testing::DeviceArray<std::byte> kept(pieces * piece_bytes);
    KVASIR_CUDA(cudaMemcpy(kept.data(), page, kept.size(), cudaMemcpyDeviceToDevice));
    for (int i = 0; i < 5; ++i) {
      KVASIR_CUDA(
          cudaMemset2D(page + position % 64 * row_bytes, piece_bytes, 0xff, row_bytes, pieces));
      KVASIR_CUDA(cudaDeviceSynchronize());
      build_decode_attention(context, args);
      testing::launch_late_copy(context, page, kept.data(), kept.size());
      run_decode_attention(context, args);
      ASSERT_EQ(problem.read(arrays), expected) << "run " << i;
    }
  }
}

TEST_F(DecodeAttention, PairsAreThoseOfWholeGranules) {
  const AttentionDesc desc{.q_heads = 8, .kv_heads = 2, .head_dim = 128};
  EXPECT_EQ(decode_attention_pairs(desc, 0, 0), 0u);
  EXPECT_EQ(decode_attention_pairs(desc, 1, 0), 16u);
  EXPECT_EQ(decode_attention_pairs(desc, 1000, 0), 1008u);
  EXPECT_EQ(decode_attention_pairs(desc, 1000, 100), 112u);  // 900..999 of 896..1007
  EXPECT_EQ(decode_attention_pairs(desc, 16, 1), 16u);
}

}  // namespace
}  // namespace kvasir::kernels

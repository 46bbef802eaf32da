#include "kernels/paged_attention/prefill_attention_table.h"
#include "kernels/paged_attention_gpu_cases.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {
namespace {

constexpr const PrefillImplementation& kOp = kPrefillAttentionSm80;

class PrefillAttentionSm80 : public testing::GpuTest {
 protected:
  size_t workspace_bytes(const GpuAttentionProblem& problem, size_t spans) const {
    return kOp.workspace_bytes(problem.desc(), context_, static_cast<int>(spans),
                               problem.max_rows(), false);
  }
  GpuAttentionResult run(const GpuAttentionProblem& problem,
                         const std::vector<CudaAttentionSpan>& spans) const {
    return problem.run(spans, workspace_bytes(problem, spans.size()),
                       [&](const CudaAttentionArgs& args) {
                         kOp.build(context_, args);
                         kOp.run(context_, args);
                       });
  }
  void check(const std::vector<AttentionShape>& shapes) const {
    for (const DType dtype : {DType::kBF16, DType::kF16})
      for (const AttentionShape& shape : shapes) {
        SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << shape);
        const GpuAttentionProblem problem(shape, dtype);
        expect_close(problem, problem.expected(context_), run(problem, problem.spans()));
        if (HasFatalFailure()) return;
      }
  }
  void check_pieces(const AttentionShape& shape, const std::vector<int>& chunks) const {
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << shape);
      const GpuAttentionProblem problem(shape, dtype);
      const GpuAttentionResult whole = run(problem, problem.spans());
      for (const int chunk : chunks)
        EXPECT_TRUE(run(problem, problem.chunks(chunk)) == whole) << "chunks of " << chunk;
      // Each span in a run of its own.
      GpuAttentionArrays alone = problem.arrays(1, workspace_bytes(problem, 1));
      for (const CudaAttentionSpan& span : problem.spans()) {
        alone.spans.write({&span, 1});
        kOp.build(context_, problem.args(alone));
        kOp.run(context_, problem.args(alone));
        synchronize();
      }
      EXPECT_TRUE(problem.read(alone) == whole) << "alone";
    }
  }
};
using PrefillAttentionSm80Full = PrefillAttentionSm80;

TEST_F(PrefillAttentionSm80, QuickCases) { check(quick_prefill_cases()); }

TEST_F(PrefillAttentionSm80, ChunkedEqualsWholeAndBatchedEqualsAlone) {
  check_pieces({.q_heads = 2,
                .kv_heads = 1,
                .head_dim = 64,
                .spans = {{150, 0}, {30, 100}, {0, 10}, {1, 77}},
                .window = 90,
                .query_scale = 3},
               {1, 50, 64});
}

TEST_F(PrefillAttentionSm80, ReplaysAGraphOnSpansThatChanged) {
  const GpuAttentionProblem problem({.q_heads = 4,
                                     .kv_heads = 2,
                                     .head_dim = 128,
                                     .spans = {{200, 0}, {70, 300}, {1, 64}, {9, 33}}},
                                    DType::kBF16);
  const std::vector<CudaAttentionSpan> whole = problem.spans();
  GpuAttentionArrays arrays = problem.arrays(whole.size(), workspace_bytes(problem, whole.size()));
  std::vector<CudaAttentionSpan> spans(whole.size());
  spans[2] = whole[0];
  arrays.spans.write(spans);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  KVASIR_CUDA(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
  kOp.build(context_, problem.args(arrays));
  kOp.run(context_, problem.args(arrays));
  KVASIR_CUDA(cudaStreamEndCapture(context_.stream, &graph));
  KVASIR_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  KVASIR_CUDA(cudaGraphLaunch(executable, context_.stream));
  synchronize();
  // What the first replay did stays, the rest is added.
  spans = {whole[1], {}, whole[3], whole[2]};
  arrays.spans.write(spans);
  KVASIR_CUDA(cudaGraphLaunch(executable, context_.stream));
  synchronize();
  expect_close(problem, problem.expected(context_), problem.read(arrays));
  KVASIR_CUDA(cudaGraphExecDestroy(executable));
  KVASIR_CUDA(cudaGraphDestroy(graph));
}

TEST_F(PrefillAttentionSm80, OverlapsWithItsNeighbours) {
  context_.overlap = true;
  check({quick_prefill_cases()[0], quick_prefill_cases()[1]});
}

// What devices of other capabilities would run gives the same bits here.
TEST_F(PrefillAttentionSm80, SharedMemoryDecidesNoBit) {
  for (const AttentionShape& shape : quick_prefill_cases()) {
    SCOPED_TRACE(::testing::Message() << shape);
    const GpuAttentionProblem problem(shape, DType::kF16);
    context_.compute_capability = device_.compute_capability;
    const GpuAttentionResult here = run(problem, problem.spans());
    for (const int capability : {80, 86, 90}) {
      context_.compute_capability = capability;
      EXPECT_TRUE(run(problem, problem.spans()) == here) << "compute capability " << capability;
    }
  }
}

TEST(PrefillAttentionTable, TakesTheBestThatIsSupported) {
  const auto chosen = [](int head_dim, int capability) {
    cuda::Context context;
    context.compute_capability = capability;
    return prefill_attention_implementation({.q_heads = 4, .kv_heads = 2, .head_dim = head_dim},
                                            context);
  };
  EXPECT_EQ(chosen(128, 90), "prefill_attention_sm90");
  EXPECT_EQ(chosen(128, 80), "prefill_attention_sm80");
  EXPECT_EQ(chosen(128, 120), "prefill_attention_sm80");
  EXPECT_EQ(chosen(96, 90), "prefill_attention_sm80");
  EXPECT_EQ(chosen(256, 86), "prefill_attention_sm80");
  EXPECT_THROW(chosen(40, 90), Error);
  EXPECT_THROW(chosen(272, 90), Error);
}

// Every row of a warp's 32 (16 where heads are longer than 128) is scored with the whole key tiles
// that any of them sees.
TEST(PrefillAttentionSm80Pairs, CountWholeTiles) {
  AttentionDesc desc{.q_heads = 1, .kv_heads = 1, .head_dim = 128};
  EXPECT_EQ(kOp.pairs(desc, 0, 0, 0), 0u);
  EXPECT_EQ(kOp.pairs(desc, -5, 3, 0), 0u);
  EXPECT_EQ(kOp.pairs(desc, 0, 1, 0), 64u);
  EXPECT_EQ(kOp.pairs(desc, 0, 128, 0), 64u * 64 + 64u * 128);
  EXPECT_EQ(kOp.pairs(desc, 60, 40, 0), 32u * 128 + 8u * 128);
  EXPECT_EQ(kOp.pairs(desc, 1023, 1, 64), 64u);
  EXPECT_EQ(kOp.pairs(desc, 1023, 1, 65), 128u);
  EXPECT_EQ(kOp.pairs(desc, 1023, 2, 64), 2u * 128);
  desc.head_dim = 256;
  EXPECT_EQ(kOp.pairs(desc, 48, 32, 0), 16u * 64 + 16u * 128);
}

TEST_F(PrefillAttentionSm80Full, Cases) { check(prefill_cases()); }

TEST_F(PrefillAttentionSm80Full, LongCases) { check(long_prefill_cases()); }

TEST_F(PrefillAttentionSm80Full, ChunkedEqualsWholeAndBatchedEqualsAlone) {
  for (const int head_dim : {64, 80, 128, 256})
    for (const int64_t window : {0, 100})
      check_pieces({.q_heads = 4,
                    .kv_heads = 2,
                    .head_dim = head_dim,
                    .spans = {{700, 0}, {1, 200}, {30, 100}, {333, 1111}},
                    .window = window,
                    .query_scale = 3},
                   {1, 7, 64, 100, 128, 250, 699});
}

// Pages, rows of q and rows of out beyond 2^31 elements from the first.
TEST_F(PrefillAttentionSm80Full, FarPagesAndRows) {
  const int64_t page_bytes = PagePool::plain_page_bytes(DType::kBF16, 1, 128);
  const std::vector<uint32_t> table{140'000, 3, 139'000};
  const int64_t pages = table[0] + 1;  // 4.6 GB
  constexpr int kRows = 150;
  constexpr int64_t kRowStride = int64_t{1} << 24;  // 5 GB
  if (device_.free_bytes < pages * page_bytes + 2 * kRows * kRowStride * 2 + (int64_t{1} << 30))
    GTEST_SKIP() << "not enough device memory";
  const cuda::DeviceMemory pool(static_cast<size_t>(pages * page_bytes));
  // Every key is the same, and the value is its page's place in the table.
  for (size_t i = 0; i < table.size(); ++i) {
    std::vector<uint16_t> page(static_cast<size_t>(page_bytes / 2), f32_to_bf16(1));
    std::fill(page.begin() + 64 * 128, page.end(), f32_to_bf16(static_cast<float>(i)));
    KVASIR_CUDA(cudaMemcpy(pool.data() + table[i] * page_bytes, page.data(), page.size() * 2,
                           cudaMemcpyHostToDevice));
  }
  testing::DeviceArray<uint16_t> q(static_cast<size_t>(kRows * kRowStride));
  testing::DeviceArray<uint16_t> out(static_cast<size_t>(kRows * kRowStride));
  KVASIR_CUDA(cudaMemset(q.data(), 0x3c, q.size() * 2));
  const testing::DeviceArray<uint32_t> tables(table);
  const std::vector<CudaAttentionSpan> spans{{.rows = kRows, .query_offset = 192 - kRows}};
  const testing::DeviceArray<CudaAttentionSpan> spans_on_device(spans);
  CudaAttentionArgs args{.q = q.data(),
                         .q_row_stride = kRowStride,
                         .out = out.data(),
                         .out_row_stride = kRowStride,
                         .pages = {.base = pool.data(),
                                   .page_bytes = page_bytes,
                                   .dtype = DType::kBF16,
                                   .kv_heads = 1,
                                   .head_dim = 128},
                         .page_count = pages,
                         .q_heads = 1,
                         .scale = 0.1f,
                         .spans = spans_on_device.data(),
                         .page_tables = tables.data(),
                         .span_count = 1,
                         .max_rows = kRows,
                         .max_length = 192};
  const AttentionDesc desc{.q_heads = 1, .kv_heads = 1, .head_dim = 128};
  const testing::DeviceArray<std::byte> workspace(
      kOp.workspace_bytes(desc, context_, 1, kRows, false));
  args.workspace = workspace.data();
  kOp.build(context_, args);
  kOp.run(context_, args);
  synchronize();
  for (const int row : {0, 100, kRows - 1}) {
    uint16_t value;
    KVASIR_CUDA(cudaMemcpy(&value, out.data() + row * kRowStride + 127, 2, cudaMemcpyDeviceToHost));
    double sum = 0;
    const int position = 192 - kRows + row;
    for (int key = 0; key <= position; ++key) sum += key / 64;
    EXPECT_NEAR(bf16_to_f32(value), sum / (position + 1), 0.01) << "row " << row;
  }
}

}  // namespace
}  // namespace kvasir::kernels

// Planners and the attention over their plans in a captured graph: what is replayed over other
// queries, keys and spans of the same bounds is what running them gives.

#include <gtest/gtest.h>

#include "kernels/planned_gpu_problem.h"

namespace kvasir::kernels {
namespace {

using PlanGraphGpu = testing::GpuTest;

TEST_F(PlanGraphGpu, ReplaysPlanWhatLiesThere) {
  for (const std::string& method : PlannedGpuProblem::methods()) {
    for (const bool overlap : {false, true}) {
      SCOPED_TRACE(::testing::Message() << method << (overlap ? ", overlapping" : ""));
      context_.overlap = overlap;
      // The same numbers of rows and pages in all.
      const auto shape = [](uint32_t seed, std::vector<SpanShape> spans) {
        return AttentionShape{.q_heads = 4,
                              .kv_heads = 2,
                              .head_dim = 64,
                              .spans = std::move(spans),
                              .query_scale = 3,
                              .seed = seed};
      };
      const GpuAttentionProblem first(shape(1, {{500, 600}, {300, 100}}), DType::kBF16);
      const GpuAttentionProblem second(shape(2, {{300, 100}, {500, 600}}), DType::kBF16);
      ASSERT_EQ(first.exact().page_count(), second.exact().page_count());
      PlannedGpuProblem planned(context_, method, first), again(context_, method, second);
      const CudaAttentionArgs args = planned.args(first), other = again.args(second);
      planned.queue(args);
      again.queue(other);
      const GpuAttentionResult of_first = planned.read(first), of_second = again.read(second);
      EXPECT_FALSE(of_first == of_second);

      cudaGraph_t graph = nullptr;
      cudaGraphExec_t captured = nullptr;
      KVASIR_CUDA(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
      planned.queue(args);
      KVASIR_CUDA(cudaStreamEndCapture(context_.stream, &graph));
      KVASIR_CUDA(cudaGraphInstantiate(&captured, graph, 0));
      const auto replay = [&] {
        KVASIR_CUDA(cudaMemset(args.out, 0xff, of_first.out.size() * sizeof(uint16_t)));
        KVASIR_CUDA(cudaDeviceSynchronize());
        KVASIR_CUDA(cudaGraphLaunch(captured, context_.stream));
        return planned.read(first);
      };
      EXPECT_TRUE(replay() == of_first);
      const auto copy = [](const void* to, const void* from, size_t bytes) {
        KVASIR_CUDA(cudaMemcpy(const_cast<void*>(to), from, bytes, cudaMemcpyDeviceToDevice));
      };
      copy(args.q, other.q, static_cast<size_t>(first.rows() * args.q_row_stride * 2));
      copy(args.pages.base, other.pages.base,
           static_cast<size_t>(args.page_count * args.pages.page_bytes));
      copy(args.page_tables, other.page_tables,
           static_cast<size_t>(args.page_count + 3) * sizeof(uint32_t));
      planned.write_spans(second.spans());
      EXPECT_TRUE(replay() == of_second);
      cudaGraphExecDestroy(captured);
      cudaGraphDestroy(graph);
    }
  }
}

}  // namespace
}  // namespace kvasir::kernels

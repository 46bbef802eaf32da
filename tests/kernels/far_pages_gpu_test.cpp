// Pages so far apart in the pool that their places do not fit 32 bits, neither in bytes nor in
// elements: results are those of the same pages side by side, bit for bit.

#include <gtest/gtest.h>

#include "kernels/planned_gpu_problem.h"

namespace kvasir::kernels {
namespace {

// The problem's pages spread over a pool of 5 GiB, and page tables that find them there.
class FarPages {
 public:
  FarPages(const CudaAttentionArgs& near, size_t table_entries)
      : count_(static_cast<int64_t>(kBytes) / near.pages.page_bytes),
        pool_(kBytes),
        tables_(table_entries) {
    KVASIR_CUDA(cudaMemset(pool_.data(), 0xff, kBytes));
    const int64_t step = (count_ - 1) / (near.page_count - 1);
    for (int64_t page = 0; page < near.page_count; ++page)
      KVASIR_CUDA(cudaMemcpy(pool_.data() + page * step * near.pages.page_bytes,
                             near.pages.base + page * near.pages.page_bytes,
                             static_cast<size_t>(near.pages.page_bytes), cudaMemcpyDeviceToDevice));
    std::vector<uint32_t> tables(table_entries);
    KVASIR_CUDA(cudaMemcpy(tables.data(), near.page_tables, table_entries * sizeof(uint32_t),
                           cudaMemcpyDeviceToHost));
    for (uint32_t& page : tables)
      if (page != ~0u) page *= static_cast<uint32_t>(step);
    tables_.write(tables);
  }
  CudaAttentionArgs place(CudaAttentionArgs args) const {
    args.pages.base = pool_.data();
    args.page_count = count_;
    args.page_tables = tables_.data();
    return args;
  }

  static constexpr size_t kBytes = size_t{5} << 30;

 private:
  int64_t count_;
  cuda::DeviceMemory pool_;
  testing::DeviceArray<uint32_t> tables_;
};

class FarPagesGpuFull : public testing::GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    size_t free = 0, all = 0;
    KVASIR_CUDA(cudaMemGetInfo(&free, &all));
    if (free < FarPages::kBytes + (size_t{1} << 30)) GTEST_SKIP() << "needs 6 GiB of GPU memory";
  }
  static AttentionShape shape(int head_dim, std::vector<SpanShape> spans) {
    return {.q_heads = 4, .kv_heads = 2, .head_dim = head_dim, .spans = std::move(spans)};
  }
  static size_t table_entries(const GpuAttentionProblem& problem) {
    size_t entries = 1;
    for (size_t i = 0; i < problem.spans().size(); ++i)
      entries += problem.exact().table(i).size() + 1;
    return entries;
  }
};

TEST_F(FarPagesGpuFull, DensePrefillAndDecode) {
  for (const int head_dim : {64, 128}) {
    for (const bool is_decode : {false, true}) {
      SCOPED_TRACE(::testing::Message() << head_dim << (is_decode ? " decode" : " prefill"));
      const GpuAttentionProblem problem(
          shape(head_dim, is_decode ? std::vector<SpanShape>{{1, 900}, {1, 300}}
                                    : std::vector<SpanShape>{{300, 500}, {100, 60}}),
          DType::kBF16);
      const size_t bytes =
          is_decode
              ? decode_attention_workspace_bytes(problem.desc(), context_, 2, problem.max_length())
              : prefill_attention_workspace_bytes(problem.desc(), context_, 2, problem.max_rows());
      const auto attend = [&](const CudaAttentionArgs& args) {
        KVASIR_CUDA(cudaMemsetAsync(args.workspace, 0, bytes, context_.stream));
        if (is_decode) {
          build_decode_attention(context_, args);
          return run_decode_attention(context_, args);
        }
        build_prefill_attention(context_, args);
        run_prefill_attention(context_, args);
      };
      const GpuAttentionResult near = problem.run(problem.spans(), bytes, attend);
      const GpuAttentionResult far =
          problem.run(problem.spans(), bytes, [&](const CudaAttentionArgs& args) {
            const FarPages pages(args, table_entries(problem));
            attend(pages.place(args));
            synchronize();
          });
      EXPECT_TRUE(near == far);
    }
  }
}

TEST_F(FarPagesGpuFull, PlansFromQueries) {
  for (const std::string& method : PlannedGpuProblem::methods()) {
    for (const int head_dim : {64, 128}) {
      SCOPED_TRACE(::testing::Message() << method << ", " << head_dim);
      const GpuAttentionProblem problem(shape(head_dim, {{700, 900}, {300, 70}}), DType::kBF16);
      PlannedGpuProblem planned(context_, method, problem);
      const CudaAttentionArgs args = planned.args(problem);
      planned.queue(args);
      const GpuAttentionResult near = planned.read(problem);
      const FarPages pages(args, table_entries(problem));
      KVASIR_CUDA(cudaMemset(args.out, 0xff, near.out.size() * sizeof(uint16_t)));
      KVASIR_CUDA(cudaDeviceSynchronize());
      planned.queue(pages.place(args));
      EXPECT_TRUE(near == planned.read(problem));
    }
  }
}

}  // namespace
}  // namespace kvasir::kernels

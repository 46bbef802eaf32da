#pragma once
// Attention kernels on random pages, for timing.

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/gpu_plans_cuda.h"
#include "bench/harness.h"
#include "cuda/context.h"
#include "cuda/memory.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::bench {

// Sequences of the given lengths with queries for their last `rows` positions; rows = 1 is decode.
class GpuAttentionCase {
 public:
  GpuAttentionCase(const cuda::Context& context, int q_heads, int kv_heads, int head_dim,
                   const std::vector<int64_t>& lengths, int64_t rows);
  // One sequence, prefilled as a whole under a plan.
  GpuAttentionCase(const cuda::Context& context, int q_heads, int kv_heads, int head_dim,
                   int64_t length, const PlanShape& plan);
  void build();
  void build_plans();  // what a layer adds to build
  void run();
  double flops() const;  // of visible pairs
  // Of what one run scores, masked parts of tiles included; of a case with a plan.
  double scored_flops();
  const SyntheticPlan& plan() const { return *plan_; }
  double kv_bytes() const;  // of every sequence

 private:
  double flops_of(double pairs) const { return 4.0 * args_.pages.head_dim * pairs; }

  cuda::Context context_;
  std::vector<int64_t> lengths_;
  int64_t rows_;
  std::unique_ptr<SyntheticPlan> plan_;
  cuda::DeviceMemory pages_, q_, out_, workspace_, spans_, tables_, scored_;
  kernels::CudaAttentionArgs args_;
};

// Prefill of one sequence under each of the plans, and dense before them: a line each. "of dense"
// is the rate for what is scored over that of dense attention for what is visible; "required of
// dense" the same for what the method needs.
std::vector<Line> time_attention_plans(const cuda::Context& context, int q_heads, int kv_heads,
                                       int head_dim, int64_t length,
                                       const std::vector<PlanShape>& plans, int repetitions);

}  // namespace kvasir::bench

#pragma once
// Looks at what attention of each layer ran over: plans, queries, keys, and how much weight each
// row's keys had together. For tracing, not for serving.

#include "kernels/context.h"
#include "kernels/paged_attention/paged_attention.h"

namespace kvasir::models {

class AttentionObserver {
 public:
  virtual ~AttentionObserver() = default;
  // Attention of `layer` ran with `args`, which hold for the call: spans with their plans, and lse
  // [rows, q_heads]. On the thread that runs the step.
  virtual void on_attention(int layer, const kernels::CpuContext& context,
                            const kernels::AttentionArgs& args) = 0;
};

}  // namespace kvasir::models

#pragma once
// Attention kernels on random pages, for timing.

#include <cstdint>
#include <vector>

#include "cuda/context.h"
#include "cuda/memory.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::bench {

// Sequences of the given lengths with queries for their last `rows` positions; rows = 1 is decode.
class GpuAttentionCase {
 public:
  GpuAttentionCase(const cuda::Context& context, int q_heads, int kv_heads, int head_dim,
                   const std::vector<int64_t>& lengths, int64_t rows);
  void build();
  void run();
  double flops() const;     // of visible pairs
  double kv_bytes() const;  // of every sequence

 private:
  cuda::Context context_;
  std::vector<int64_t> lengths_;
  int64_t rows_;
  cuda::DeviceMemory pages_, q_, out_, workspace_, spans_, tables_;
  kernels::CudaAttentionArgs args_;
};

}  // namespace kvasir::bench

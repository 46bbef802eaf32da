#pragma once
// The implementations of prefill attention on GPUs, for paged_attention_cuda.cpp alone.

#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

struct PrefillImplementation {
  std::string_view name;
  int priority = 0;  // the highest supported one wins
  bool (*supports)(const AttentionDesc& desc, int compute_capability) = nullptr;
  size_t (*workspace_bytes)(const AttentionDesc& desc, const cuda::Context& context, int max_spans,
                            int64_t max_rows, bool has_plans) = nullptr;
  void (*build)(const cuda::Context& context, const CudaAttentionArgs& args) = nullptr;
  void (*build_plans)(const cuda::Context& context, const CudaAttentionArgs& args) = nullptr;
  void (*run)(const cuda::Context& context, const CudaAttentionArgs& args) = nullptr;
  uint64_t (*pairs)(const AttentionDesc& desc, int64_t query_offset, int64_t rows,
                    int64_t window) = nullptr;
};

extern const PrefillImplementation kPrefillAttentionSm80;  // mma.sync: every head_dim
extern const PrefillImplementation kPrefillAttentionSm90;  // wgmma and TMA: head_dim 64 and 128

}  // namespace kvasir::kernels

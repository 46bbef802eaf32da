#pragma once
// Attention by its formula on a GPU, in f32: the reference for problems too long for the CPU's.

#include <span>

#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

// `spans` on the host, args.spans is not read; out [rows, q_heads, head_dim] and lse
// [rows, q_heads] are dense and in device memory. args.out, args.lse and the workspace are not
// used.
void run_naive_attention(const cuda::Context& context, const CudaAttentionArgs& args,
                         std::span<const CudaAttentionSpan> spans, float* out, float* lse);

}  // namespace kvasir::kernels

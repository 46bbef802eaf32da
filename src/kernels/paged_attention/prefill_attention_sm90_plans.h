#pragma once
// Spans with plans on Hopper, for prefill_attention_sm90.cu alone. `workspace` is theirs.

#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels::sm90::plans {

size_t workspace_bytes(const AttentionDesc& desc, int max_spans, int64_t max_rows);
// Once a step, once a layer, and the attention itself.
void build_tiles(const cuda::Context& context, const CudaAttentionArgs& args, std::byte* workspace);
void build_items(const cuda::Context& context, const CudaAttentionArgs& args, std::byte* workspace);
void run(const cuda::Context& context, const CudaAttentionArgs& args, std::byte* workspace);

}  // namespace kvasir::kernels::sm90::plans

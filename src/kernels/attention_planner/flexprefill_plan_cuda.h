#pragma once
// FlexPrefill's plans of a layer on a GPU (arXiv 2502.20766), for every span of a step and all
// query heads: what prefill/flexprefill defines, up to the rounding of the estimate's sums. Nothing
// waits for the host, launches depend on the bounds alone, and a span's plan has the same bits
// whatever the batch.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

// What sizes and grids follow from.
struct FlexPrefillBounds {
  int q_heads = 0, kv_heads = 0, head_dim = 0;
  int span_count = 0;
  int64_t max_rows = 0;    // of any span
  int64_t max_length = 0;  // query_offset + rows of any span; at most 2^20
};

struct FlexPrefillPlanArgs {
  const void* q = nullptr;                   // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;                  // elements, a multiple of 8
  PagePool pages;                            // kBF16 or kF16; head_dim a multiple of 16 up to 256
  float scale = 0;                           // positive; usually 1 / sqrt(head_dim)
  const CudaAttentionSpan* spans = nullptr;  // [span_count], device
  const uint32_t* page_tables = nullptr;     // device; of this layer
  FlexPrefillBounds bounds;
  double gamma = 0.95;
  double tau = 0.1;
  int32_t min_blocks = 1;
  double densest = 0.7;            // a head whose plan holds a larger share is made dense
  CudaPlanArrays plan;             // sizes of a head's places: flexprefill_plan_sizes
  std::byte* workspace = nullptr;  // flexprefill_plan_workspace_bytes, 256-byte aligned, device
};

// The sizes of a head's places and the row tile; no arrays.
CudaPlanArrays flexprefill_plan_sizes(const FlexPrefillBounds& bounds);
// Enough for spans of fewer rows and keys too. Sums of as many heads at once as fit 128 MB (one KV
// head's at least), and so of maps (one head's at least).
size_t flexprefill_plan_workspace_bytes(const FlexPrefillBounds& bounds);
void run_flexprefill_plan(const cuda::Context& context, const FlexPrefillPlanArgs& args);

}  // namespace kvasir::kernels

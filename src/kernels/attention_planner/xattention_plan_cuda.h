#pragma once
// XAttention's plans of a layer on a GPU (arXiv 2503.16428), for every span of a step and all query
// heads: of every row tile of 128 queries the fewest blocks of 128 keys that hold a share of the
// attention, as antidiagonals estimate it. Nothing waits for the host, launches depend on the
// bounds alone, and a span's plan has the same bits whatever the batch.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

// What sizes and grids follow from.
struct XAttentionBounds {
  int q_heads = 0, kv_heads = 0;
  int span_count = 0;
  int64_t max_rows = 0;    // of any span
  int64_t max_length = 0;  // query_offset + rows of any span; at most 2^20
  int stride = 8;          // 8 or 16: queries and keys of a group
};

struct XAttentionPlanArgs {
  const void* q = nullptr;                   // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;                  // elements, a multiple of 8
  PagePool pages;                            // kBF16 or kF16
  float scale = 0;                           // positive; usually 1 / sqrt(head_dim)
  const float* shares = nullptr;             // [q_heads], device; at least 1: all blocks
  const CudaAttentionSpan* spans = nullptr;  // [span_count], device
  const uint32_t* page_tables = nullptr;     // device; of this layer
  XAttentionBounds bounds;
  double densest = 0.9;  // a head whose plan holds a larger share of the pairs is made dense
  CudaPlanArrays plan;   // sizes of a head's places: xattention_plan_sizes
  std::byte* workspace = nullptr;  // xattention_plan_workspace_bytes, 256-byte aligned, device
};

// The sizes of a head's places and the row tile; no arrays.
CudaPlanArrays xattention_plan_sizes(const XAttentionBounds& bounds);
// Enough for spans of fewer rows and keys too. For as many row tiles at once as fit 128 MB (one at
// least).
size_t xattention_plan_workspace_bytes(const XAttentionBounds& bounds);
void run_xattention_plan(const cuda::Context& context, const XAttentionPlanArgs& args);

}  // namespace kvasir::kernels

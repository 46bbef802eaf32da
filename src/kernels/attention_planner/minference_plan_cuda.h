#pragma once
// MInference's plans of a layer on a GPU (arXiv 2407.02490), for every span of a step and every
// query head by its pattern: what prefill/minference makes on the CPU, up to the rounding of the
// estimate's sums. Nothing waits for the host, launches depend on the bounds alone, and a span's
// plan has the same bits whatever the batch.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/attention_planner/vertical_slash_index_cuda.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "kernels/vertical_slash/head_budget.h"

namespace kvasir::kernels {

// What sizes and grids follow from.
struct MinferenceBounds {
  int q_heads = 0, kv_heads = 0, head_dim = 0;
  int span_count = 0;
  int64_t max_rows = 0;    // of any span
  int64_t max_length = 0;  // query_offset + rows of any span; at most 2^20
  int32_t row_tile = 128;  // 64 or 128
  VerticalSlashBudgets budgets;
  // Which patterns the heads have.
  bool has_vertical_slash = true;
  bool has_block_sparse = false;
};

struct MinferencePlanArgs {
  const void* q = nullptr;                   // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;                  // elements, a multiple of 8
  PagePool pages;                            // kBF16 or kF16
  float scale = 0;                           // positive; usually 1 / sqrt(head_dim)
  const HeadBudget* heads = nullptr;         // [q_heads], device
  const CudaAttentionSpan* spans = nullptr;  // [span_count], device
  const uint32_t* page_tables = nullptr;     // device; of this layer
  MinferenceBounds bounds;
  double densest = 0.5;
  int32_t blocks = 100;  // of a row tile, of block-sparse heads; first and own ones forced
  // Sizes of a head's places: minference_plan_sizes.
  CudaPlanArrays plan;
  std::byte* workspace = nullptr;  // minference_plan_workspace_bytes, 256-byte aligned, device
};

// The sizes of a head's places and the row tile; no arrays.
CudaPlanArrays minference_plan_sizes(const MinferenceBounds& bounds);
// Enough for spans of fewer rows and keys too. Sums are held for as many heads at once as fit 128
// MB (one KV head's at least).
size_t minference_plan_workspace_bytes(const MinferenceBounds& bounds);
void run_minference_plan(const cuda::Context& context, const MinferencePlanArgs& args);

}  // namespace kvasir::kernels

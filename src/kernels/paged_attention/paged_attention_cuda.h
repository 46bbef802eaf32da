#pragma once
// Causal attention over paged keys and values on a GPU: what paged_attention.h defines, with
// everything that changes from step to step in device memory. Spans of several rows (prefill) and
// of one row (decode) are two kernels, as their bounds are arithmetic and bandwidth.
//
// The formulas, masks and the layout of pages are those of paged_attention.h and page.h.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/dtype.h"
#include "cuda/context.h"
#include "kernels/page.h"
#include "kernels/paged_attention/attention_desc.h"
#include "kernels/paged_attention/attention_plan_cuda.h"

namespace kvasir::kernels {

// Consecutive queries of one sequence, in device memory. Positions [0, query_offset + rows) are
// present in the pages.
struct CudaAttentionSpan {
  int32_t first_row = 0;     // row of the first query in q, out and lse
  int32_t rows = 0;          // may be 0: nothing to do
  int32_t query_offset = 0;  // position of the first query
  // Position p is row p % 64 of page page_tables[first_page + p / 64].
  int32_t first_page = 0;
  int32_t plan = -1;  // which of CudaAttentionArgs::plans (prefill alone); -1 = every visible key
};

struct CudaAttentionArgs {
  const void* q = nullptr;     // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;    // elements between rows of q; a multiple of 8
  void* out = nullptr;         // [rows, q_heads, head_dim] in pages.dtype; may not alias q
  int64_t out_row_stride = 0;  // elements; a multiple of 8
  float* lse = nullptr;        // [rows, q_heads] natural logarithm, or null
  PagePool pages;              // base in device memory; kBF16 or kF16
  int64_t page_count = 0;      // pages in the pool
  int q_heads = 0;             // a multiple of pages.kv_heads
  float scale = 0;             // positive; usually 1 / sqrt(head_dim)
  int64_t window = 0;          // 0 = unlimited
  const CudaAttentionSpan* spans = nullptr;  // [span_count], device
  const uint32_t* page_tables = nullptr;     // device; of this layer
  // What spans with a plan attend to, in this layer. [plan_count], device.
  const CudaAttentionPlan* plans = nullptr;
  // [span_count], device, or null. Of spans with a plan, the query-key pairs that were scored,
  // masked parts of tiles included and summed over the heads, are added.
  uint64_t* scored_pairs = nullptr;
  // Upper bounds on the host: grids and workspaces depend on these alone.
  int span_count = 0;
  int plan_count = 0;              // 0: no span has a plan
  int64_t max_rows = 0;            // rows of all spans together
  int64_t max_length = 0;          // query_offset + rows of any span
  std::byte* workspace = nullptr;  // *_workspace_bytes(...), 256-byte aligned, device
};

// On a GPU desc.dtype is kBF16 or kF16, head_dim a multiple of 16 up to 256.

// Prefill: spans of any number of rows. A row's result depends on its own sequence alone, not on
// the batch or the chunking: key tiles start at multiples of the tile size and are reduced in
// ascending order. Bound by arithmetic: 4 * head_dim flops a visible (query, key, head).
//
// Spans with a plan meet what attention_plan.h says, under the window too; rows that see no key get
// zeros and -inf. Other keys are not read but for those that lie, at a multiple of 8, in one group
// of 8 with a key that some query of the row tile, or of its 128 rows, sees: these have to be
// finite. `has_plans`: whether plan_count will ever be above 0.
size_t prefill_attention_workspace_bytes(const AttentionDesc& desc, const cuda::Context& context,
                                         int max_spans, int64_t max_rows, bool has_plans = false);
// Once a step for each window, before its layers: what does not depend on the layer (from spans; on
// the device).
void build_prefill_attention(const cuda::Context& context, const CudaAttentionArgs& args);
// Once a layer, after its plans are written and before its run: lists of work by what the plans
// hold (on the device). Nothing to do where plan_count is 0.
void build_prefill_plans(const cuda::Context& context, const CudaAttentionArgs& args);
void run_prefill_attention(const cuda::Context& context, const CudaAttentionArgs& args);
// "prefill_attention_sm90", "prefill_attention_sm80".
std::string_view prefill_attention_implementation(const AttentionDesc& desc,
                                                  const cuda::Context& context);
// Query-key pairs that the kernel scores for one head of such a span without a plan, masked parts
// of tiles included.
uint64_t prefill_attention_pairs(const AttentionDesc& desc, const cuda::Context& context,
                                 int64_t query_offset, int64_t rows, int64_t window);

// Decode: spans of at most one row (others are an error of the caller), split over keys so that
// any batch fills the GPU. Bound by bandwidth: every visible key and value is read once. Results
// are the same bits each time, and depend on the batch by rounding alone.
//
// The page tables, and all keys and values but those at the spans' own positions, are in place when
// the build runs: where launches overlap, runs read them before the kernels between have ended.
size_t decode_attention_workspace_bytes(const AttentionDesc& desc, const cuda::Context& context,
                                        int max_spans, int64_t max_length);
void build_decode_attention(const cuda::Context& context, const CudaAttentionArgs& args);
void run_decode_attention(const cuda::Context& context, const CudaAttentionArgs& args);
uint64_t decode_attention_pairs(const AttentionDesc& desc, int64_t length, int64_t window);

}  // namespace kvasir::kernels

#pragma once
// Causal attention of a ragged batch of query spans over paged keys and values.
//
// For query row r of a span (position p = query_offset + r) and query head h, with KV head
// g = h / (q_heads / kv_heads) and window w:
//   visible keys j: max(0, p - w + 1) <= j <= p   (w = 0: no lower bound)
//   out[r, h] = sum_j softmax_j(scale * <q[r, h], k_j[g]>) v_j[g],  lse[r, h] = logsumexp_j(...)
// A row without visible keys gives 0 and -inf. A span with a plan sees of these keys, head by head,
// what the plan lets through (attention_plan.h).

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/context.h"
#include "kernels/page.h"
#include "kernels/paged_attention/attention_desc.h"
#include "kernels/paged_attention/attention_plan.h"

namespace kvasir::kernels {

// Consecutive queries of one sequence. Positions [0, query_offset + rows) are present in the pages,
// the queries' own keys included.
struct AttentionSpan {
  int64_t first_row = 0;     // row of the first query in q, out and lse
  int64_t rows = 0;          // may be 0
  int64_t query_offset = 0;  // position of the first query
  const uint32_t* page_table = nullptr;
  const AttentionPlan* plan = nullptr;  // of all q_heads; null: dense. query_variant is 0 in it
};

// On the CPU desc.dtype is kF32 or kBF16; any head_dim, and 64, 80, 96, 128 and 256 are the fast
// ones.
struct AttentionArgs {
  const void* q = nullptr;   // [rows, q_heads, head_dim] in desc.dtype
  int64_t q_row_stride = 0;  // elements between rows of q
  void* out = nullptr;       // [rows, q_heads, head_dim] in desc.dtype, dense; may not alias q
  float* lse = nullptr;      // [rows, q_heads] natural logarithm, or null
  PagePool pages;
  int q_heads = 0;
  float scale = 0;     // positive; usually 1 / sqrt(head_dim)
  int64_t window = 0;  // 0 = unlimited
  std::span<const AttentionSpan> spans;
  // One result per row whatever the batch, the chunking and the number of threads: every span runs
  // through the prefill kernel (also those of one row), whose key tiles start at multiples of 64
  // positions and are reduced in ascending order.
  bool deterministic = false;
  std::byte* workspace = nullptr;  // attention_workspace_bytes(...), 64-byte aligned
  // [spans.size()] += query-key pairs scored for each span, summed over query heads, masked parts
  // of tiles included; or null. The caller zeroes it.
  uint64_t* scored_pairs = nullptr;
};

// Bytes of workspace that run_attention may use for `desc` with spans of at most `max_rows` rows in
// total, at most `max_spans` of them, sequences up to `max_length`, on `threads` threads. Shapes
// only.
size_t attention_workspace_bytes(const AttentionDesc& desc, int64_t max_rows, int64_t max_spans,
                                 int64_t max_length, int threads);

// Runs the best implementation up to `at_most`. Spans of one row without a plan are decode and are
// split over keys; others are prefill. Both may be mixed in one call. Work is dealt to
// context.pool.
void run_attention(const CpuContext& context, const AttentionArgs& args, Isa at_most = kEveryIsa);

// The scalar definition of the op, in double precision inside; ignores workspace, deterministic.
void run_attention_reference(const CpuContext& context, const AttentionArgs& args);

// Name of the implementation that run_attention picks: "paged_attention_avx512bf16".
std::string_view attention_implementation(const AttentionDesc& desc, Isa at_most = kEveryIsa);

}  // namespace kvasir::kernels

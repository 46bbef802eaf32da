#pragma once
// The estimate of vertical_slash.h on a GPU: for all heads of a layer and a ragged batch of spans,
// from queries and paged keys in device memory.
//
// The work is made of units: unit u is KV head u % kv_heads of span u / kv_heads. A run takes some
// consecutive units, so that sums of long prompts need not be held for all of them at once.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "kernels/vertical_slash/head_budget.h"

namespace kvasir::kernels {

struct CudaVerticalSlashArgs {
  const void* q = nullptr;                   // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;                  // elements, a multiple of 8
  PagePool pages;                            // kBF16 or kF16; head_dim a multiple of 16 up to 256
  int q_heads = 0;                           // a multiple of pages.kv_heads
  float scale = 0;                           // positive; usually 1 / sqrt(head_dim)
  const HeadBudget* heads = nullptr;         // [q_heads] device: others than kVerticalSlash are
                                             // left out. Null: all are estimated.
  const CudaAttentionSpan* spans = nullptr;  // device
  const uint32_t* page_tables = nullptr;     // device; of this layer
  int first_unit = 0;
  int units = 0;
  int64_t max_length = 0;  // query_offset + rows of any span
  // [units * q_heads / kv_heads, sums_row_stride] f32, the heads of a unit one after the other. Of
  // each row the span's length is written; rows of heads that are left out are not.
  float* column_sums = nullptr;
  float* offset_sums = nullptr;
  int64_t sums_row_stride = 0;     // elements, at least max_length
  std::byte* workspace = nullptr;  // vertical_slash_workspace_bytes(...), 256-byte aligned, device
};

// Shapes only. For runs of at most `units` units.
size_t vertical_slash_workspace_bytes(int group_heads, int units, int64_t max_length);

// Reads every key twice for up to four heads (two beyond head_dim 128) of its KV head at once. The
// same bits each time, whatever the batch: sums are f32 in an order that depends on the span's
// length alone. Bounds: 2 * 2 * 64 * head_dim flops a key and head, 2 * 2 * head_dim bytes a key
// and KV head.
void run_vertical_slash(const cuda::Context& context, const CudaVerticalSlashArgs& args);

}  // namespace kvasir::kernels

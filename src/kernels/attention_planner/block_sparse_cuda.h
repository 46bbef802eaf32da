#pragma once
// Programs of MInference's block-sparse heads on a GPU: of every row tile the blocks of 64 keys
// whose mean key has the highest product with the tile's mean query, as prefill/minference defines
// it (block_sparse.h) and with the same bits: means and products are added in the same order.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "kernels/vertical_slash/head_budget.h"

namespace kvasir::kernels {

struct CudaBlockSparseArgs {
  const void* q = nullptr;                   // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;                  // elements
  PagePool pages;                            // kBF16 or kF16; head_dim a multiple of 16 up to 256
  int q_heads = 0;                           // a multiple of pages.kv_heads
  const HeadBudget* heads = nullptr;         // [q_heads], device; others than kBlockSparse are left
                                             // out
  const CudaAttentionSpan* spans = nullptr;  // device
  const uint32_t* page_tables = nullptr;     // device; of this layer
  int span_count = 0;
  int64_t max_rows = 0;    // of any span
  int64_t max_length = 0;  // query_offset + rows of any span; at most 2^20
  int32_t blocks = 100;    // of each row tile
  bool force_diagonal = true, force_sink = true;
  CudaPlanArrays plan;             // head_words: block_sparse_words(...)
  std::byte* workspace = nullptr;  // block_sparse_workspace_bytes(...), 256-byte aligned
};

// A bit for each block of keys and row tile: rows * length / (8 * 64 * row_tile) bytes a head.
// Prompts in chunks of 32K rows stay below half a megabyte at 1M keys.
int64_t block_sparse_words(int64_t max_rows, int64_t max_length, int row_tile);
size_t block_sparse_workspace_bytes(int q_heads, int kv_heads, int head_dim, int span_count,
                                    int64_t max_rows, int64_t max_length, int row_tile);
// Bound by arithmetic: 2 * head_dim operations, not fused, a row tile and block that it sees.
void run_block_sparse(const cuda::Context& context, const CudaBlockSparseArgs& args);

}  // namespace kvasir::kernels

#pragma once
// How much of their attention the last queries of a chunk give to each key and to each distance:
// what MInference picks the columns and diagonals of a vertical-slash head from (arXiv 2407.02490,
// section 3.2; exact softmax scale 1/sqrt(d) as in the released code since August 2024).
//
// For query head h and the last n = min(64, rows) queries of the span, at positions
// r_i = length - n + i of length = query_offset + rows keys:
//   p[i, c] = softmax_c(scale * <q_i, k_c>) over c <= r_i
//   column_sums[h, c] = sum_i p[i, c],   offset_sums[h, o] = sum_i p[i, r_i - o]
// Both sum up to n over their length. No entry is forced here: selection does that.

#include <cstdint>
#include <span>

#include "kernels/context.h"
#include "kernels/page.h"

namespace kvasir::kernels {

inline constexpr int64_t kEstimateQueries = 64;

struct VerticalSlashArgs {
  const void* q = nullptr;  // [rows, query heads, head_dim] in pages.dtype, of the span's first row
  int64_t q_row_stride = 0;  // elements between rows
  int64_t rows = 0;          // of the span; at least 1
  int64_t query_offset = 0;  // position of the span's first query
  PagePool pages;            // f32 or bf16; positions [0, query_offset + rows) are written
  const uint32_t* page_table = nullptr;
  int kv_head = 0;
  std::span<const int32_t> heads;  // the query heads to estimate, all of kv_head
  float scale = 0;                 // usually 1 / sqrt(head_dim)
  float* column_sums = nullptr;    // [heads.size(), sums_row_stride]: `length` of each row written
  float* offset_sums = nullptr;    // the same extents
  int64_t sums_row_stride = 0;     // elements, at least length
  std::byte* workspace = nullptr;  // vertical_slash_workspace_bytes(...), 64-byte aligned
};

// Of a call with `heads` query heads and at most `max_length` keys. Shapes only.
size_t vertical_slash_workspace_bytes(int heads, int head_dim, int64_t max_length, int threads);

// Reads the keys twice: for the logarithm of each query's sum, then for the shares. Sums are f32,
// in an order that depends on the shapes alone: the bits are the same on every number of threads.
// Work is dealt to context.pool by ranges of keys.
void run_vertical_slash(const CpuContext& context, const VerticalSlashArgs& args,
                        Isa at_most = kEveryIsa);

// The scalar definition, in double precision inside; ignores workspace.
void run_vertical_slash_reference(const CpuContext& context, const VerticalSlashArgs& args);

}  // namespace kvasir::kernels

#pragma once
// The masses of antidiagonal.h on a GPU: for all heads of a layer and some row tiles of a span,
// from queries and paged keys in device memory.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

struct CudaAntidiagonalArgs {
  const void* q = nullptr;                  // [rows, q_heads, head_dim] in pages.dtype
  int64_t q_row_stride = 0;                 // elements, a multiple of 8
  PagePool pages;                           // kBF16 or kF16; head_dim a multiple of 16 up to 256
  int q_heads = 0;                          // a multiple of pages.kv_heads
  float scale = 0;                          // positive; usually 1 / sqrt(head_dim)
  int stride = 8;                           // 8 or 16
  const CudaAttentionSpan* span = nullptr;  // one, device
  const uint32_t* page_tables = nullptr;    // device; of this layer
  int first_tile = 0;                       // row tiles [first_tile, first_tile + tiles) of the
  int tiles = 0;                            // span, as far as it has them
  int64_t max_length = 0;                   // query_offset + rows of the span
  // [q_heads, tiles, mass_row_stride] f32: of each row that the span has, one entry for every block
  // that begins before query_offset + rows.
  float* masses = nullptr;
  int64_t mass_row_stride = 0;     // elements
  std::byte* workspace = nullptr;  // antidiagonal_workspace_bytes(...), 256-byte aligned, device
};

// Two numbers for each query group and block: q_heads * tiles * 128 / stride * max_length / 128 * 8
// bytes. A map of group scores never lies in memory.
size_t antidiagonal_workspace_bytes(int q_heads, int kv_heads, int stride, int tiles,
                                    int64_t max_length);
// Bound by arithmetic: 1 / stride of the flops of the dense scores. The same bits each time,
// whatever the tiles beside.
void run_antidiagonal(const cuda::Context& context, const CudaAntidiagonalArgs& args);

}  // namespace kvasir::kernels

#pragma once
// XAttention's selection on a GPU (arXiv 2503.16428, section 2.2): of every row tile of 128 queries
// the fewest blocks of 128 keys that hold a share of the masses that kernels/antidiagonal finds.
//
// The first block and those that hold a tile's own positions are always taken, and what they hold
// counts; then the highest masses, of equal ones the lower block first, until the share is reached.
// Masses are added as whole numbers of 2^-36, so that the order of addition does not matter.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

struct MassBlocksArgs {
  const float* masses = nullptr;  // [q_heads, tiles, mass_row_stride], device: as
                                  // CudaAntidiagonalArgs has them
  int64_t mass_row_stride = 0;
  const float* shares = nullptr;  // [q_heads], device; at least 1: all blocks
  int q_heads = 0;
  const CudaAttentionSpan* spans = nullptr;  // device
  int span = 0;                              // which of them
  int first_tile = 0, tiles = 0;             // as in CudaAntidiagonalArgs
  CudaPlanArrays plan;                       // row_tile 128; head_words: block_sparse_words(...)
};

// Selects for the row tiles, between begin_ and end_block_programs (block_programs_cuda.h).
void run_mass_blocks(const cuda::Context& context, const MassBlocksArgs& args);

}  // namespace kvasir::kernels

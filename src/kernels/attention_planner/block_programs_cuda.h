#pragma once
// Programs of heads that attend to blocks of keys: one kBlocks segment each, or everything where
// the blocks hold too large a share of the pairs. In between, whoever chooses the blocks of a row
// tile writes its bits, and adds what they hold to the head's report.

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

struct BlockProgramsArgs {
  int q_heads = 0;
  const CudaAttentionSpan* spans = nullptr;  // device
  int span = 0;                              // which of them
  CudaPlanArrays plan;                       // head_words: block_sparse_words(...)
};

// Begins the programs and empties the reports.
void begin_block_programs(const cuda::Context& context, const BlockProgramsArgs& args);
// Makes heads dense whose report says so, or whose program holds a larger share of the pairs than
// `densest`.
void end_block_programs(const cuda::Context& context, const BlockProgramsArgs& args,
                        double densest);

}  // namespace kvasir::kernels

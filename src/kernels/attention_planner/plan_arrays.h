#pragma once
// Where planners on a GPU write the plans of a layer: one per span of the step, each of them as
// attention_plan_cuda.h has it. Every head has a place of its own in each array, of the size that
// shapes alone give; how much of it is in use stands in its program.

#include <cstddef>
#include <cstdint>

#include "kernels/paged_attention/attention_plan_cuda.h"

namespace kvasir::kernels {

// What became of a head whose pairs depend on the data, for reading back at leisure.
struct HeadReport {
  // Query-key pairs of the program, counted in whole row tiles; 0 for an A-shape, whose pairs
  // follow from the shapes.
  int64_t pairs = 0;
  int64_t dense_pairs = 0;     // of dense attention in the same tiles
  int32_t is_dense = 0;        // made dense, as its index holds too large a share
  int32_t is_query_aware = 0;  // of FlexPrefill's heads
};

struct CudaPlanArrays {
  HeadProgram* programs = nullptr;  // [spans, q_heads]
  PlanSegment* segments = nullptr;  // [spans, q_heads, head_segments]
  int32_t* columns = nullptr;       // [spans, q_heads, head_columns]
  uint32_t* block_bits = nullptr;   // [spans, q_heads, head_words]
  HeadReport* reports = nullptr;    // [spans, q_heads]
  int32_t head_segments = 0;
  int32_t head_columns = 0;
  int32_t head_words = 0;
  int32_t row_tile = 128;  // 64 or 128

  CudaAttentionPlan plan(int span, int q_heads) const {
    return {.heads = programs + int64_t{span} * q_heads,
            .segments = segments,
            .columns = columns,
            .block_bits = block_bits,
            .row_tile = row_tile};
  }
};

}  // namespace kvasir::kernels

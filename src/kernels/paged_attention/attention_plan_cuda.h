#pragma once
// An attention plan (attention_plan.h) in device memory, where kernels write it: nothing between a
// planner and the attention waits for the host.
//
// Arrays have the capacity that their planner sized from shapes; how much of them is in use stands
// in `heads` alone, which the device writes.

#include <cstdint>

#include "kernels/paged_attention/attention_plan.h"

namespace kvasir::kernels {

struct CudaAttentionPlan {
  const HeadProgram* heads = nullptr;     // [q_heads]
  const PlanSegment* segments = nullptr;  // what heads[h].first and .count name
  const int32_t* columns = nullptr;
  const uint32_t* block_bits = nullptr;
  int32_t row_tile = 128;  // queries of a row tile: 64 or 128
};

}  // namespace kvasir::kernels

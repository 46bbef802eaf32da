#pragma once
// The steps of FlexPrefill's planning on a GPU, of one span, as flexprefill_plan_cuda.cpp puts them
// together: means; lines of blocks, which are columns and distances; maps of means.

#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/flexprefill_plan_cuda.h"
#include "kernels/attention_planner/radix_threshold.h"

namespace kvasir::kernels::flexprefill {

inline constexpr int kBlock = 128;  // keys; and queries of a row tile

struct Work {
  FlexPrefillPlanArgs args;
  int span = 0;         // which of args.spans
  int most_blocks = 0;  // of any span
  int most_tiles = 0;
  float* key_means = nullptr;  // [kv_heads][head_dim / 4][most_blocks][4]
  float* query_means =
      nullptr;  // [q_heads][most_tiles + 1][head_dim]; the last queries' behind all
  // [q_heads][2][most_blocks]: what the last queries give to the blocks of keys, and to groups of
  // 128 distances from the farthest one on.
  float* line_masses = nullptr;
  uint32_t* lines = nullptr;       // [q_heads][2][words of most_blocks]: which of them are taken
  int32_t* query_aware = nullptr;  // [q_heads]
  radix::Threshold* thresholds = nullptr;  // [q_heads], of the map
  uint32_t* equals = nullptr;              // [q_heads][most_tiles]: entries equal to the threshold
};

// Sums of the estimate (vertical_slash_cuda.h) for the heads of some KV heads.
struct Sums {
  int first_head = 0, heads = 0;
  // [heads, row_stride], of all the last queries at first of the last 64; `before`: of the 64
  // before these, which exist where the span has more than 64 rows.
  float *columns = nullptr, *distances = nullptr;
  const float *columns_before = nullptr, *distances_before = nullptr;
  int64_t row_stride = 0;
};

// The spans without their last 64 queries.
void shorten_spans(const cuda::Context& context, const CudaAttentionSpan* spans, int count,
                   CudaAttentionSpan* shorter);
void run_means(const cuda::Context& context, const Work& work);
// What the heads of `sums` are and which lines they take. Sums become means over the queries.
void run_lines(const cuda::Context& context, const Work& work, const Sums& sums);
// The bits of the plan for the heads [first_head, first_head + heads); `maps`:
// [heads][most_tiles][most_blocks], of which query-aware heads use theirs.
void run_maps(const cuda::Context& context, const Work& work, int first_head, int heads,
              float* maps);

}  // namespace kvasir::kernels::flexprefill

#pragma once
// From the sums of kernels/vertical_slash to the programs of vertical-slash heads, on a GPU: the
// columns and diagonals with the highest sums, and the index relative to the row tile that
// prefill/minference defines (select.h, vertical_slash_index.h). Heads of an A-shape are written
// along with them; block-sparse ones are left out.

#include <cstddef>
#include <cstdint>

#include "cuda/context.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "kernels/vertical_slash/head_budget.h"

namespace kvasir::kernels {

// How many columns and offsets a head keeps.
struct VerticalSlashBudgets {
  // 0: what the heads' budgets say. Else the fewest that hold this share of all column sums, and
  // of all offset sums: forced ones first, then the highest; within the bounds below.
  float mass = 0;
  // Bounds for every head, budgets included: what fits the plan.
  int32_t most_columns = 0;
  int32_t most_offsets = 0;
};

struct VerticalSlashIndexArgs {
  const float* column_sums = nullptr;  // as run_vertical_slash writes them, 16-byte aligned
  const float* offset_sums = nullptr;
  int64_t sums_row_stride = 0;        // elements, a multiple of 4
  const HeadBudget* heads = nullptr;  // [q_heads], device
  VerticalSlashBudgets budgets;
  double densest = 0.5;  // a head whose index holds a larger share of the pairs is made dense
  int q_heads = 0, kv_heads = 0;
  const CudaAttentionSpan* spans = nullptr;  // device
  int first_unit = 0, units = 0;             // as in vertical_slash_cuda.h
  int64_t max_length = 0;
  CudaPlanArrays plan;
  std::byte* workspace = nullptr;  // ..._workspace_bytes(...), 256-byte aligned
};

// What a plan's arrays need for each head. Relative runs are apart by more than nothing, so that
// there are at most as many as fit the length.
int32_t vertical_slash_segments(const VerticalSlashBudgets& budgets, int64_t max_length,
                                int row_tile);
size_t vertical_slash_index_workspace_bytes(const VerticalSlashBudgets& budgets, int group_heads,
                                            int units);
// Spans without rows get programs without segments.
void run_vertical_slash_index(const cuda::Context& context, const VerticalSlashIndexArgs& args);

}  // namespace kvasir::kernels

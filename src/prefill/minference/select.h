#pragma once
// Which columns and diagonals of a vertical-slash head are kept (MInference, arXiv 2407.02490,
// Alg. 2, with the clamps and forced entries of the released code).

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/vertical_slash/head_budget.h"

namespace kvasir::prefill::minference {

using kernels::kForcedColumns, kernels::kForcedOffsets;

// How many columns and how many diagonals are kept, the forced ones included.
struct Budgets {
  int64_t columns = 0;
  int64_t offsets = 0;
};

// The head configuration's numbers times `ratio`, truncated, then at least 30 columns and 50
// offsets and at most `length` of each.
Budgets clamp_budgets(int64_t columns, int64_t offsets, double ratio, int64_t length);

// The fewest columns and the fewest offsets, the forced ones among them, that hold `share` of all
// sums (kernels/vertical_slash/adaptive_budget.h, whose counts GPUs find too): budgets that follow
// the prompt.
Budgets adaptive_budgets(std::span<const float> column_sums, std::span<const float> offset_sums,
                         double share);

// Columns and offsets (distances between query and key), both ascending.
struct Selection {
  std::vector<int32_t> columns;
  std::vector<int32_t> offsets;  // 0 is always among them
  std::vector<float> scratch;
};

// From the sums of kernels/vertical_slash, one entry per key and per offset; overwrites those that
// are forced. Forced entries count against the budgets.
void select_vertical_slash(std::span<float> column_sums, std::span<float> offset_sums,
                           const Budgets& budgets, Selection& selection);

}  // namespace kvasir::prefill::minference

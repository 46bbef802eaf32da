#pragma once
// How many entries of a row of sums hold a given share of all of it: budgets that follow the prompt
// (as FlexPrefill has for blocks, arXiv 2502.20766, here on single columns and offsets).

#include <cstdint>
#include <span>

namespace kvasir::kernels {

// The fewest entries, the first `forced` of them and then the highest others, whose scores add up
// to `share` of all. Scores are taken as whole numbers of 2^-36, capped at 64, so that the count
// depends on no order of addition; negative ones and NaN count as 0. At most 2^20 scores.
int64_t adaptive_budget(std::span<const float> scores, int64_t forced, float share);

}  // namespace kvasir::kernels

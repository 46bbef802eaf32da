#include "prefill/minference/select.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace kvasir::prefill::minference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t clamp_budget(int64_t budget, double ratio, int64_t fewest, int64_t length) {
  const double scaled = std::trunc(static_cast<double>(budget) * ratio);
  // Beyond `length` the size does not matter, and a double may not fit an integer.
  const auto wanted = static_cast<int64_t>(std::clamp(scaled, 0.0, static_cast<double>(length)));
  return kernels::clamp_budget(wanted, fewest, length);
}

}  // namespace

Budgets clamp_budgets(int64_t columns, int64_t offsets, double ratio, int64_t length) {
  return {.columns = clamp_budget(columns, ratio, kernels::kFewestColumns, length),
          .offsets = clamp_budget(offsets, ratio, kernels::kFewestOffsets, length)};
}

void select_highest(std::span<const float> scores, int64_t count, std::vector<float>& scratch,
                    std::vector<int32_t>& indices) {
  indices.clear();
  if (count <= 0) return;
  if (count >= std::ssize(scores)) {
    indices.resize(scores.size());
    std::iota(indices.begin(), indices.end(), 0);
    return;
  }
  const auto comparable = [](float score) { return std::isnan(score) ? -kInfinity : score; };
  scratch.resize(scores.size());
  std::ranges::transform(scores, scratch.begin(), comparable);
  const auto last = scratch.begin() + count - 1;
  std::nth_element(scratch.begin(), last, scratch.end(), std::greater<>());
  const float lowest = *last;
  int64_t equal = count - std::count_if(scratch.begin(), last,
                                        [lowest](float score) { return score > lowest; });
  for (int64_t i = 0; i < std::ssize(scores); ++i) {
    const float score = comparable(scores[static_cast<size_t>(i)]);
    if (score > lowest || (score == lowest && equal-- > 0))
      indices.push_back(static_cast<int32_t>(i));
  }
}

void select_vertical_slash(std::span<float> column_sums, std::span<float> offset_sums,
                           const Budgets& budgets, Selection& selection) {
  const auto force = [](std::span<float> sums, int64_t count) {
    std::ranges::fill(sums.first(static_cast<size_t>(std::min(count, std::ssize(sums)))),
                      kInfinity);
  };
  force(column_sums, kForcedColumns);
  force(offset_sums, kForcedOffsets);
  select_highest(column_sums, budgets.columns, selection.scratch, selection.columns);
  select_highest(offset_sums, budgets.offsets, selection.scratch, selection.offsets);
}

}  // namespace kvasir::prefill::minference

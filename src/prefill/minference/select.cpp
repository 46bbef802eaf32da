#include "prefill/minference/select.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/vertical_slash/adaptive_budget.h"
#include "prefill/select.h"

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

Budgets adaptive_budgets(std::span<const float> column_sums, std::span<const float> offset_sums,
                         double share) {
  const auto wanted = static_cast<float>(share);
  return {.columns = kernels::adaptive_budget(column_sums, kForcedColumns, wanted),
          .offsets = kernels::adaptive_budget(offset_sums, kForcedOffsets, wanted)};
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

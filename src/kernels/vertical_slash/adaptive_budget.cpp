#include "kernels/vertical_slash/adaptive_budget.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace kvasir::kernels {
namespace {

uint64_t mass_of(float score) {
  if (!(score > 0)) return 0;
  return static_cast<uint64_t>(std::nearbyint(double{std::min(score, 64.0f)} * 0x1p36));
}

}  // namespace

int64_t adaptive_budget(std::span<const float> scores, int64_t forced, float share) {
  std::vector<uint64_t> masses(scores.size());
  std::ranges::transform(scores, masses.begin(), mass_of);
  const auto others = masses.begin() + std::min(forced, std::ssize(scores));
  const uint64_t all = std::accumulate(masses.begin(), masses.end(), uint64_t{0});
  uint64_t taken = std::accumulate(masses.begin(), others, uint64_t{0});
  const uint64_t wanted =
      std::min(all, static_cast<uint64_t>(std::ceil(double{share} * static_cast<double>(all))));
  std::sort(others, masses.end(), std::greater<>());
  auto next = others;
  while (taken < wanted) taken += *next++;
  return next - masses.begin();
}

}  // namespace kvasir::kernels

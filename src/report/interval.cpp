#include "report/interval.h"

#include <algorithm>
#include <cmath>

namespace kvasir::report {
namespace {

constexpr double kQuantile = 1.959963984540054;  // of the normal distribution, both sides 2.5 %

}  // namespace

Interval wilson_interval(int64_t right, int64_t questions) {
  if (questions == 0) return {};
  const double n = static_cast<double>(questions), share = static_cast<double>(right) / n;
  const double square = kQuantile * kQuantile;
  const double middle = (share + square / (2 * n)) / (1 + square / n);
  const double half =
      kQuantile / (1 + square / n) * std::sqrt(share * (1 - share) / n + square / (4 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

Interval paired_interval(int64_t gained, int64_t lost, int64_t questions) {
  if (questions == 0) return {-1, 1};
  const double n = static_cast<double>(questions) + 2;
  const double more = static_cast<double>(gained) + 0.5, fewer = static_cast<double>(lost) + 0.5;
  const double middle = (more - fewer) / n;
  const double half = kQuantile * std::sqrt(more + fewer - (more - fewer) * (more - fewer) / n) / n;
  return {std::max(-1.0, middle - half), std::min(1.0, middle + half)};
}

}  // namespace kvasir::report

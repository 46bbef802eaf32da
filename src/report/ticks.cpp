#include "report/ticks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace kvasir::report {
namespace {

constexpr double kLargest = 1e300;  // differences of what is beyond are no numbers

// The least of 1, 2, 5, 10, 20, ... times a power of ten that is not below `wanted`; of tokens, a
// power of two.
double round_step(double wanted, NumberStyle style) {
  if (style == NumberStyle::kTokens && wanted > 8) return std::exp2(std::ceil(std::log2(wanted)));
  if (style == NumberStyle::kWhole) wanted = std::max(wanted, 1.0);
  const double power = std::pow(10, std::floor(std::log10(wanted)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= wanted * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

void make_linear(const Axis& axis, int most_ticks, Scale& scale) {
  if (!(scale.most > scale.least)) {
    // One value alone stands in the middle of something.
    const double margin = scale.least == 0 ? 1 : std::abs(scale.least) / 2;
    if (!axis.least || axis.most) scale.least -= margin;
    if (!axis.most) scale.most += margin;
  }
  scale.step = round_step((scale.most - scale.least) / most_ticks, scale.style);
  if (!axis.least) scale.least = std::floor(scale.least / scale.step + 1e-9) * scale.step;
  if (!axis.most) scale.most = std::ceil(scale.most / scale.step - 1e-9) * scale.step;
  const double first = std::ceil(scale.least / scale.step - 1e-9);
  for (int i = 0; (first + i) * scale.step <= scale.most + 1e-9 * scale.step; ++i)
    scale.ticks.push_back((first + i) * scale.step);
}

// Powers of the base, thinned out; of narrow ranges in base 10 also their multiples by 2 and 5.
void make_log(const Axis& axis, int most_ticks, Scale& scale) {
  const double base = scale.style == NumberStyle::kTokens ? 2 : 10;
  const auto log = [base](double value) { return std::log(value) / std::log(base); };
  if (!(scale.most > scale.least)) {
    if (!axis.least || axis.most) scale.least /= base;
    if (!axis.most) scale.most *= base;
  }
  const bool is_narrow = base == 10 && log(scale.most) - log(scale.least) < 3;
  const auto down = [&](double value) {
    const double power = std::pow(base, std::floor(log(value) + 1e-9));
    if (is_narrow)
      for (const double factor : {5.0, 2.0})
        if (factor * power <= value * (1 + 1e-9)) return factor * power;
    return power;
  };
  if (!axis.least) scale.least = down(scale.least);
  if (!axis.most) {
    const double below = down(scale.most);
    if (below < scale.most * (1 - 1e-9)) {
      const double power = std::pow(base, std::floor(log(below) + 1e-9));
      const double factor = below / power;
      scale.most = !is_narrow ? base * power : power * (factor < 1.5 ? 2 : factor < 3 ? 5 : 10);
    }
  }
  const auto first = static_cast<int>(std::floor(log(scale.least) + 1e-9));
  const auto last = static_cast<int>(std::ceil(log(scale.most) - 1e-9));
  const int each = std::max(1, (last - first + most_ticks - 1) / most_ticks);
  for (int power = first; power <= last; power += each)
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && (!is_narrow || each > 1)) continue;
      const double tick = factor * std::pow(base, power);
      if (tick >= scale.least * (1 - 1e-9) && tick <= scale.most * (1 + 1e-9))
        scale.ticks.push_back(tick);
    }
  if (scale.ticks.empty()) scale.ticks = {scale.least, scale.most};
}

}  // namespace

bool Scale::holds(double value) const {
  return std::abs(value) < kLargest && (!is_log || value > 1 / kLargest);
}

double Scale::place(double value) const {
  return is_log ? (std::log(value) - std::log(least)) / (std::log(most) - std::log(least))
                : (value - least) / (most - least);
}

std::string Scale::text(double value) const {
  return number_text(value, is_log ? value : step, style);
}

std::string Scale::fine_text(double value) const {
  const double fine = is_log ? std::pow(10, std::floor(std::log10(value)) - 2) : step / 100;
  return number_text(value, fine, style);
}

Scale make_scale(const Axis& axis, std::span<const double> values, int most_ticks) {
  Scale scale{.least = std::numeric_limits<double>::infinity(),
              .most = -std::numeric_limits<double>::infinity(),
              .is_log = axis.is_log,
              .style = axis.style};
  for (const double value : values) {
    if (!scale.holds(value)) continue;
    scale.least = std::min(scale.least, value);
    scale.most = std::max(scale.most, value);
  }
  if (axis.least && scale.holds(*axis.least)) scale.least = *axis.least;
  if (axis.most && scale.holds(*axis.most)) scale.most = *axis.most;
  const bool has_least = std::isfinite(scale.least), has_most = std::isfinite(scale.most);
  if (!has_least && !has_most) scale.least = axis.is_log ? 1 : 0;  // no data, no wishes
  if (!has_most) scale.most = axis.is_log ? 10 * scale.least : scale.least + 1;
  if (has_most && !has_least) scale.least = axis.is_log ? scale.most / 10 : scale.most - 1;
  if (scale.most < scale.least) {
    if (axis.least && axis.most)
      std::swap(scale.least, scale.most);
    else
      (axis.least ? scale.most : scale.least) = axis.least ? scale.least : scale.most;
  }
  if (axis.is_log)
    make_log(axis, std::max(2, most_ticks), scale);
  else
    make_linear(axis, std::max(2, most_ticks), scale);
  return scale;
}

}  // namespace kvasir::report

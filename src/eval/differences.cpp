// The statistics of comparisons.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/compare.h"

namespace kvasir::eval {
namespace {

using Groups = std::span<const std::vector<double>>;

// The regularised incomplete beta function by its continued fraction (Lentz's method).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(b, a, 1 - x);
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x)) /
                       a;
  const auto not_zero = [](double value) { return std::abs(value) < 1e-300 ? 1e-300 : value; };
  double c = 1, d = 1 / not_zero(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double change = 1;
    for (const double term : {even, odd}) {
      d = 1 / not_zero(1 + term * d);
      c = not_zero(1 + term / c);
      change = c * d;
      fraction *= change;
    }
    if (std::abs(change - 1) < 1e-15) break;
  }
  return front * fraction;
}

// t whose two-sided tail is 5 %.
double student_quantile(double degrees) {
  double low = 0, high = 1e3;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (student_p(middle, degrees) > 0.05 ? low : high) = middle;
  }
  return low;
}

struct Mean {
  double value = 0, square_error = 0;
  double groups = 0, members = 0;
};

Mean mean_of(Groups groups) {
  Mean mean{.groups = static_cast<double>(groups.size())};
  for (const auto& group : groups) {
    mean.value = std::accumulate(group.begin(), group.end(), mean.value);
    mean.members += static_cast<double>(group.size());
  }
  mean.value /= mean.members;
  for (const auto& group : groups) {
    double away = 0;
    for (const double value : group) away += value - mean.value;
    mean.square_error += away * away;
  }
  if (groups.size() < 2) return mean;
  mean.square_error *= mean.groups / (mean.groups - 1) / (mean.members * mean.members);
  // Rounding of values that are all alike is no spread.
  if (mean.square_error < 1e-24) mean.square_error = 0;
  return mean;
}

Difference by_student(double value, double square_error, double degrees) {
  const double error = std::sqrt(square_error), reach = student_quantile(degrees) * error;
  return {value, {value - reach, value + reach}, student_p(value / error, degrees)};
}

// Two-sided probability of a count as far from half of `trials` as `most`, by fair coins.
double sign_test(int64_t more, int64_t fewer) {
  const int64_t trials = more + fewer, most = std::max(more, fewer);
  double tail = 0;
  for (int64_t count = most; count <= trials; ++count)
    tail += std::exp(std::lgamma(trials + 1.0) - std::lgamma(count + 1.0) -
                     std::lgamma(static_cast<double>(trials - count) + 1) -
                     static_cast<double>(trials) * std::log(2.0));
  return std::min(1.0, 2 * tail);
}

}  // namespace

double student_p(double t, double degrees) {
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

Difference paired_difference(Groups groups) {
  const Mean mean = mean_of(groups);
  const bool is_binary = std::ranges::all_of(groups, [](const auto& group) {
    return group.size() == 1 && (group[0] == 0 || std::abs(group[0]) == 1);
  });
  if (groups.size() < 2) return {mean.value, {-1, 1}, 1};
  if (!is_binary && mean.square_error > 0)
    return by_student(mean.value, mean.square_error, mean.groups - 1);
  // Groups that are all alike have no spread to go by: each is one trial.
  int64_t more = 0, fewer = 0;
  for (const auto& group : groups) {
    const double sum = std::accumulate(group.begin(), group.end(), 0.0);
    more += sum > 1e-12;
    fewer += sum < -1e-12;
  }
  const auto count = static_cast<int64_t>(groups.size());
  report::Interval interval = report::paired_interval(more, fewer, count);
  interval.low = std::min(interval.low, mean.value);
  interval.high = std::max(interval.high, mean.value);
  return {mean.value, interval, sign_test(more, fewer)};
}

Difference unpaired_difference(Groups first, Groups second) {
  const Mean a = mean_of(first), b = mean_of(second);
  const double value = b.value - a.value;
  if (first.size() < 2 || second.size() < 2) return {value, {-1, 1}, 1};
  const auto square_error = [](const Mean& mean) {
    if (mean.square_error > 0) return mean.square_error;
    const double share = (mean.value * mean.groups + 1) / (mean.groups + 2);
    return share * (1 - share) / (mean.groups + 2);
  };
  const double of_a = square_error(a), of_b = square_error(b);
  const double degrees =
      (of_a + of_b) * (of_a + of_b) / (of_a * of_a / (a.groups - 1) + of_b * of_b / (b.groups - 1));
  Difference found = by_student(value, of_a + of_b, degrees);
  found.interval.low = std::max(found.interval.low, -1.0);
  found.interval.high = std::min(found.interval.high, 1.0);
  return found;
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order,
                    [&](size_t a, size_t b) { return std::pair(p[a], a) < std::pair(p[b], b); });
  std::vector<double> adjusted(p.size());
  double most = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    most = std::max(most, std::min(1.0, p[order[i]] * static_cast<double>(p.size() - i)));
    adjusted[order[i]] = most;
  }
  return adjusted;
}

}  // namespace kvasir::eval

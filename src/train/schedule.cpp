#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kvasir::train {
namespace {

double after_warmup(const Schedule& schedule, int64_t step) {
  // `done` goes from 0 to 1 over the decay; a last step of exactly final_fraction would be wasted.
  const auto between = [&](int64_t first, int64_t count) {
    return std::clamp(
        static_cast<double>(step - first) / static_cast<double>(std::max<int64_t>(count, 1)), 0.0,
        1.0);
  };
  const double span = 1 - schedule.final_fraction;
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return 1;
    case ScheduleKind::kCosine: {
      const double done =
          between(schedule.warmup_steps, schedule.total_steps - schedule.warmup_steps);
      return schedule.final_fraction + span * 0.5 * (1 + std::cos(std::numbers::pi * done));
    }
    case ScheduleKind::kWsd:
      return 1 - span * between(schedule.total_steps - schedule.decay_steps, schedule.decay_steps);
  }
  return 1;
}

}  // namespace

double learning_rate_fraction(const Schedule& schedule, int64_t step) {
  const int64_t since = step - schedule.first_step;
  int64_t steps = schedule.warmup_steps;
  if (schedule.first_step > 0)  // not for long where few steps are left
    steps = std::min(steps, (schedule.total_steps - schedule.first_step) / 10);
  const double warmup =
      since < steps ? static_cast<double>(since + 1) / static_cast<double>(steps) : 1;
  return warmup * after_warmup(schedule, step);
}

}  // namespace kvasir::train

#pragma once
// The learning rate of each step, as a fraction of the highest.

#include <cstdint>

namespace kvasir::train {

enum class ScheduleKind : uint8_t { kConstant, kCosine, kWsd };

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  int64_t total_steps = 0;
  int64_t warmup_steps = 0;  // linear from the first step on
  int64_t decay_steps = 0;   // kWsd: the last steps, linear (Hu et al., MiniCPM, 2024)
  double final_fraction = 0.1;
  // A run that takes weights without optimiser state warms up again from this step on, for a tenth
  // of the steps that are left at most.
  int64_t first_step = 0;
};

// Of step 0, 1, ..., total_steps - 1.
double learning_rate_fraction(const Schedule& schedule, int64_t step);

}  // namespace kvasir::train

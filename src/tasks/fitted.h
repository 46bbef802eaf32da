#pragma once
// Samples as long as asked for: what a task builds from a number of units (entries, bytes of a
// book) is fitted to the budget of tokens.

#include <functional>
#include <memory>
#include <string>

#include "tasks/random.h"
#include "tasks/task.h"

namespace kvasir::tasks {

struct FittedTask {
  std::string task;
  std::string tag;    // of its random numbers
  int64_t least = 1;  // units of the shortest sample
  int64_t guess = 1;  // about what fits
  // Pure; grows with the units.
  std::function<Sample(const GeneratorOptions&, Random, int64_t units)> build;
  int64_t most = int64_t{1} << 40;  // units that there are
};

std::unique_ptr<Generator> make_fitted(FittedTask task, GeneratorOptions options);

}  // namespace kvasir::tasks

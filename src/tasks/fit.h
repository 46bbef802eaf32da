#pragma once
// Samples as long as asked for.

#include <algorithm>
#include <utility>

#include "tasks/task.h"

namespace kvasir::tasks {

// The largest sample build(units) within options.target_tokens, or one at most 1 % below it.
// `build` is pure and gives a Sample that grows with `units` >= least. Errors: kResourceExhausted
// where even build(least) is too long.
template <class Build>
Result<Sample> fit_sample(const GeneratorOptions& options, int64_t least, int64_t guess,
                          Build&& build) {
  const int64_t target = options.target_tokens;
  Sample best = build(least);
  int64_t fits = least, tokens = count_tokens(best, options);
  if (tokens > target)
    return Error(ErrorCode::kResourceExhausted, "a sample of " + best.task + " with " +
                                                    std::to_string(options.turns) +
                                                    " turns needs " + std::to_string(tokens) +
                                                    " tokens, more than the target of " +
                                                    std::to_string(target));
  // Regula falsi between what fits and what does not, by halves where that stands still.
  int64_t too_many = 0, too_many_tokens = 0;
  int64_t next = std::max(guess, least + 1);
  for (int round = 0; tokens < target - target / 100; ++round) {
    Sample sample = build(next);
    const int64_t counted = count_tokens(sample, options);
    if (counted <= target) {
      fits = next;
      tokens = counted;
      best = std::move(sample);
    } else {
      too_many = next;
      too_many_tokens = counted;
    }
    if (too_many == 0) {
      const double share = static_cast<double>(target) / static_cast<double>(std::max<int64_t>(tokens, 1));
      next = std::max(fits + 1, static_cast<int64_t>(static_cast<double>(fits) * std::min(share, 8.0)));
      continue;
    }
    if (too_many - fits <= 1) break;
    const double slope = static_cast<double>(too_many - fits) /
                         static_cast<double>(std::max<int64_t>(too_many_tokens - tokens, 1));
    // A little below the target, so that the next one rather fits.
    const double wanted = static_cast<double>(target - target / 250 - tokens);
    next = round > 8 ? (fits + too_many) / 2 : fits + static_cast<int64_t>(slope * wanted);
    next = std::clamp(next, fits + 1, too_many - 1);
  }
  return best;
}

}  // namespace kvasir::tasks

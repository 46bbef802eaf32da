#include "tasks/fitted.h"

#include <algorithm>

namespace kvasir::tasks {

int64_t count_tokens(const Sample& sample, const GeneratorOptions& options) {
  int64_t tokens = options.sample_overhead + options.count(sample.context);
  for (const Turn& turn : sample.turns)
    tokens += options.turn_overhead + options.count(turn.question) + options.count(turn.golden());
  return tokens;
}

namespace {

using BuildSample = std::function<Sample(int64_t)>;

// The longest sample within the target that is found before one at most 1 % below it.
Result<Sample> fit_sample(const GeneratorOptions& options, int64_t least, int64_t guess,
                          int64_t most, const BuildSample& build) {
  const int64_t target = options.target_tokens;
  Sample best = build(least);
  int64_t fits = least, tokens = count_tokens(best, options);
  if (tokens > target)
    return Error(ErrorCode::kResourceExhausted,
                 "a sample of " + best.task + " with " + std::to_string(options.turns) +
                     " turns needs " + std::to_string(tokens) +
                     " tokens, more than the target of " + std::to_string(target));
  // Regula falsi between what fits and what does not, by halves where that stands still.
  int64_t too_many = 0, too_many_tokens = 0;
  int64_t next = std::clamp(guess, least + 1, std::max(most, least + 1));
  for (int round = 0; tokens < target - target / 100 && fits < most; ++round) {
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
      const double share =
          static_cast<double>(target) / static_cast<double>(std::max<int64_t>(tokens, 1));
      next = std::max(fits + 1,
                      static_cast<int64_t>(static_cast<double>(fits) * std::min(share, 8.0)));
      next = std::min(next, most);
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

class FittedGenerator final : public Generator {
 public:
  FittedGenerator(FittedTask task, GeneratorOptions options)
      : task_(std::move(task)), options_(std::move(options)) {}

  Result<Sample> sample(uint64_t seed, uint64_t index) const override {
    const Random random(seed, task_.tag, index);
    return fit_sample(options_, task_.least, task_.guess, task_.most, [&](int64_t units) {
      Sample sample = task_.build(options_, random, units);
      sample.task = task_.task;
      sample.id = std::to_string(index);
      return sample;
    });
  }

 private:
  FittedTask task_;
  GeneratorOptions options_;
};

}  // namespace

std::unique_ptr<Generator> make_fitted(FittedTask task, GeneratorOptions options) {
  return std::make_unique<FittedGenerator>(std::move(task), std::move(options));
}

}  // namespace kvasir::tasks

#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/philox.h"

namespace kvasir::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Error out_of_range(const char* option, const char* expected, double found) {
  return Error(ErrorCode::kInvalidArgument, fmt::format("expected {}, found {}", expected, found),
               option);
}

// The largest logit; -inf where all are, NaN where one is NaN or +inf. In lanes, as a maximum of
// floats taken one after the other is not turned into vector instructions.
float best_of(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  float best[kLanes];
  uint32_t bad[kLanes] = {};
  std::ranges::fill(best, -kInfinity);
  const auto take = [&](float logit, size_t lane) {
    best[lane] = logit > best[lane] ? logit : best[lane];
    bad[lane] |= !(logit < kInfinity);
  };
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) take(logits[i + lane], lane);
  for (; i < logits.size(); ++i) take(logits[i], 0);
  if (std::ranges::any_of(bad, [](uint32_t lane) { return lane != 0; }))
    return std::numeric_limits<float>::quiet_NaN();
  return std::ranges::max(best);
}

double log_sum_exp(std::span<const float> logits, float best) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - best);
  return best + std::log(sum);
}

}  // namespace

// Comparisons are written so that NaN fails them.
Result<void> check_sampling(const SamplingOptions& options) {
  if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
    return out_of_range("temperature", "0 (greedy) or a number above it", options.temperature);
  if (options.top_k < 0)
    return out_of_range("top_k", "0 (off) or more", static_cast<double>(options.top_k));
  if (!(options.top_p > 0 && options.top_p <= 1))
    return out_of_range("top_p", "more than 0 and at most 1 (off)", options.top_p);
  if (!(options.min_p >= 0 && options.min_p < 1))
    return out_of_range("min_p", "0 (off) or more, and less than 1", options.min_p);
  if (!(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty)))
    return out_of_range("repetition_penalty", "a number above 0 (1 = off)",
                        options.repetition_penalty);
  if (!std::isfinite(options.presence_penalty))
    return out_of_range("presence_penalty", "a number (0 = off)", options.presence_penalty);
  if (!std::isfinite(options.frequency_penalty))
    return out_of_range("frequency_penalty", "a number (0 = off)", options.frequency_penalty);
  return {};
}

Error broken_logits(int64_t position, bool all_minus_infinity) {
  return Error(ErrorCode::kInternal,
               fmt::format("the model's logits for position {} are {}; are the weights intact?",
                           position, all_minus_infinity ? "all minus infinity" : "not finite"));
}

Sampler::Sampler(const SamplingOptions& options, int sample, int64_t vocab_size)
    : options_(options), sample_(sample) {
  if (options.repetition_penalty != 1) seen_.resize(static_cast<size_t>(vocab_size));
  if (options.presence_penalty != 0 || options.frequency_penalty != 0)
    answer_counts_.resize(static_cast<size_t>(vocab_size));
}

void Sampler::add_prompt(std::span<const TokenId> tokens) {
  if (seen_.empty()) return;
  for (const TokenId token : tokens) seen_[static_cast<size_t>(token)] = 1;
}

void Sampler::add_answer(TokenId token) {
  if (!seen_.empty()) seen_[static_cast<size_t>(token)] = 1;
  if (!answer_counts_.empty()) ++answer_counts_[static_cast<size_t>(token)];
}

double Sampler::random_number(int64_t position) const {
  return uniform(options_.seed, static_cast<uint32_t>(sample_), static_cast<uint64_t>(position));
}

Result<SampleResult> Sampler::sample(std::span<const float> logits, int64_t position, int top) {
  const float best = best_of(logits);
  if (!(best > -kInfinity)) return broken_logits(position, !std::isnan(best));
  const std::span<const float> scores = penalised(logits);
  const float best_score = scores.data() == logits.data() ? best : best_of(scores);
  SampleResult result;
  result.token = options_.temperature == 0
                     ? static_cast<TokenId>(std::ranges::find(scores, best_score) - scores.begin())
                     : draw(scores, best_score, position);
  if (top < 0) return result;

  const double total = log_sum_exp(logits, best);
  result.logprob = static_cast<float>(logits[static_cast<size_t>(result.token)] - total);
  rank_top(logits, top);
  for (const Rank& rank : top_)
    result.top_logprobs.push_back({rank.token, static_cast<float>(rank.score - total)});
  return result;
}

std::span<const float> Sampler::penalised(std::span<const float> logits) {
  if (seen_.empty() && answer_counts_.empty()) return logits;
  scratch_.resize(logits.size());
  const double repetition = options_.repetition_penalty;
  for (size_t i = 0; i < logits.size(); ++i) {
    double score = logits[i];
    if (!seen_.empty() && seen_[i]) score = score < 0 ? score * repetition : score / repetition;
    if (!answer_counts_.empty() && answer_counts_[i] > 0)
      score -= options_.presence_penalty + options_.frequency_penalty * answer_counts_[i];
    // Extreme penalties must not make a token infinitely likely.
    constexpr double kLargest = std::numeric_limits<float>::max();
    scratch_[i] = logits[i] == -kInfinity
                      ? -kInfinity
                      : static_cast<float>(std::clamp(score, -kLargest, kLargest));
  }
  return scratch_;
}

double Sampler::weigh(float score, float best) const {
  return std::exp((static_cast<double>(score) - best) / options_.temperature);
}

TokenId Sampler::draw(std::span<const float> scores, float best, int64_t position) {
  // Every filter leaves a leading part of the order of tokens; `last` is the last one in it.
  Rank last{-kInfinity, std::numeric_limits<TokenId>::max()};
  const auto count = static_cast<int64_t>(scores.size());
  if (options_.top_k > 0 && options_.top_k < count) {
    rank_top(scores, options_.top_k);
    last = top_.back();
  }
  // Weights in the order of ids: what is drawn does not depend on how the filters found `last`.
  candidates_.clear();
  double total = 0;
  for (TokenId token = 0; token < count; ++token) {
    const Rank rank{scores[static_cast<size_t>(token)], token};
    if (last.before(rank)) continue;
    const double weight = weigh(rank.score, best);
    candidates_.push_back({weight, rank});
    total += weight;
  }
  if (options_.top_p < 1) {
    last = last_of_share(total);
    std::erase_if(candidates_, [&](const Candidate& each) { return last.before(each.rank); });
  }
  std::erase_if(candidates_, [&](const Candidate& each) { return each.weight < options_.min_p; });

  total = 0;
  for (const Candidate& each : candidates_) total += each.weight;
  double left = total * random_number(position);
  TokenId chosen = 0;
  for (const Candidate& each : candidates_) {
    if (each.weight == 0) continue;
    chosen = each.rank.token;
    left -= each.weight;
    if (left < 0) break;
  }
  return chosen;
}

// Where the most likely candidates reach top_p of `total`, in linear time: tokens below the mean
// share of what may be left out are not looked at, and of the others halves are set aside.
Sampler::Rank Sampler::last_of_share(double total) {
  const double least =
      (1 - options_.top_p) * total / static_cast<double>(std::max<size_t>(1, candidates_.size()));
  share_.clear();
  for (const Candidate& each : candidates_)
    if (each.weight >= least) share_.push_back(each);
  double wanted = options_.top_p * total;
  auto first = share_.begin(), end = share_.end();
  while (end - first > 1) {
    const auto middle = first + (end - first) / 2;
    std::nth_element(first, middle, end,
                     [](const Candidate& a, const Candidate& b) { return a.rank.before(b.rank); });
    double mass = 0;
    for (auto each = first; each != middle; ++each) mass += each->weight;
    if (mass >= wanted) {
      end = middle;
    } else {
      wanted -= mass;
      first = middle;
    }
  }
  return first->rank;
}

// top_ = the first `count` tokens in order, by a heap whose front is the worst of them.
void Sampler::rank_top(std::span<const float> scores, int64_t count) {
  const auto before = [](const Rank& a, const Rank& b) { return a.before(b); };
  const auto size = static_cast<size_t>(std::min(count, static_cast<int64_t>(scores.size())));
  top_.clear();
  for (size_t i = 0; i < scores.size() && size > 0; ++i) {
    const Rank rank{scores[i], static_cast<TokenId>(i)};
    if (top_.size() == size) {
      if (!rank.before(top_.front())) continue;
      std::ranges::pop_heap(top_, before);
      top_.pop_back();
    }
    top_.push_back(rank);
    std::ranges::push_heap(top_, before);
  }
  std::ranges::sort_heap(top_, before);
}

}  // namespace kvasir::engine

#pragma once
// Chooses a token from logits.

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::engine {

// Refuses values outside their range, naming option, range and value.
Result<void> check_sampling(const SamplingOptions& options);

struct SampleResult {
  TokenId token = 0;
  float logprob = 0;                       // of the unmodified distribution
  std::vector<TokenLogprob> top_logprobs;  // `top` of them, descending, ties by id
};

// Why no token was chosen: the model's logits are all -inf, or one is NaN or +inf.
Error broken_logits(int64_t position, bool all_minus_infinity);

// The sampler of one sample: keeps the token counts that the penalties need.
//
// Order: penalties, temperature, top-k, top-p, min-p. Repetition divides positive logits of seen
// tokens by the penalty and multiplies negative ones; presence and frequency are subtracted, once
// and once for each occurrence. Each filter works on what the one before it has left: top-k keeps
// exactly k tokens; top-p the fewest most likely ones whose share is at least p, at least one;
// min-p those at least min_p times as likely as the most likely one. Equal tokens rank by id, lower
// first.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, int sample, int64_t vocab_size);
  void add_prompt(std::span<const TokenId> tokens);
  void add_answer(TokenId token);  // called for every token that sample() returned

  // logits [vocab] f32, not modified; -inf = never chosen. `position` is the position of the token
  // being chosen; the random number is a function of (seed, sample, position) alone. Greedy ties
  // go to the lowest id. `top` < 0: no log-probabilities are computed. kInternal where a logit is
  // NaN or +inf, or where all are -inf.
  Result<SampleResult> sample(std::span<const float> logits, int64_t position, int top = -1);

  // What sample() works with, for executors that choose tokens on their device.
  const SamplingOptions& options() const { return options_; }
  double random_number(int64_t position) const;  // uniform in [0, 1)
  // [vocab] or empty = not needed. Until the next add_answer().
  std::span<const uint8_t> seen() const { return seen_; }
  std::span<const int32_t> answer_counts() const { return answer_counts_; }

 private:
  // A place in the order of tokens, most likely first.
  struct Rank {
    float score = 0;
    TokenId token = 0;
    bool before(const Rank& other) const {
      return score > other.score || (score == other.score && token < other.token);
    }
  };
  struct Candidate {
    double weight = 0;  // exp((score - best score) / temperature)
    Rank rank;
  };

  std::span<const float> penalised(std::span<const float> logits);
  TokenId draw(std::span<const float> scores, float best, int64_t position);
  void rank_top(std::span<const float> scores, int64_t count);
  Rank last_of_share(double total);
  double weigh(float score, float best) const;

  SamplingOptions options_;
  int sample_;
  std::vector<int32_t> answer_counts_;  // [vocab], empty unless presence or frequency is on
  std::vector<uint8_t> seen_;           // [vocab], empty unless repetition is on
  std::vector<float> scratch_;          // [vocab] penalised logits
  std::vector<Rank> top_;
  std::vector<Candidate> candidates_, share_;
};

}  // namespace kvasir::engine

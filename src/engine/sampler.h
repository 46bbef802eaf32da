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

// The sampler of one sample: keeps the token counts that the penalties need.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, int sample, int64_t vocab_size);
  void add_prompt(std::span<const TokenId> tokens);
  void add_answer(TokenId token);  // called for every token that sample() returned

  // logits [vocab] f32, not modified. `position` is the position of the token being chosen; the
  // random number is a function of (seed, sample, position) alone. Greedy ties go to the lowest id.
  // `top` < 0: no log-probabilities are computed.
  SampleResult sample(std::span<const float> logits, int64_t position, int top = -1);

 private:
  SamplingOptions options_;
  int sample_;
  std::vector<int32_t> answer_counts_;  // empty unless a penalty is on
  std::vector<uint8_t> seen_;
  std::vector<float> scratch_;
  std::vector<int32_t> order_;
};

}  // namespace kvasir::engine

#pragma once
// Chooses tokens from logits on a GPU: the rules of engine/sampler.h for every row at once, in one
// launch. A draw's result depends on its row and itself alone, to the bit. Weights and their sums
// are doubles, with an error of some 1e-15, as on the CPU; top-p compares them in units of 2^-44.
// So the two choose differently only where the random number or top-p falls that close to the
// border between two tokens.

#include <cstdint>

#include "cuda/context.h"

namespace kvasir::kernels {

inline constexpr int kMaxTopLogprobs = 32;
inline constexpr int64_t kLargestSampledVocab = 1 << 18;  // the sums of top-p fit 64 bits

// One draw. Several draws may read one row of logits (samples of one prompt).
struct SampleDraw {
  int64_t row = 0;         // of the logits
  double temperature = 0;  // 0 = greedy
  int64_t top_k = 0;       // 0 = off
  double top_p = 1;        // 1 = off
  double min_p = 0;        // 0 = off
  double uniform = 0;      // [0, 1): the random number of (seed, sample, position)
  double repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  const uint8_t* seen = nullptr;    // [vocab] device, or null: no repetition penalty
  const int32_t* counts = nullptr;  // [vocab] device, or null: no presence and frequency penalty
  int top = -1;                     // log-probabilities of so many tokens; -1 = none at all
};

struct SampleChoice {
  int32_t token = 0;
  // Why no token was chosen: 0 = fine, 1 = a logit is NaN or +inf, 2 = all are -inf.
  int32_t fault = 0;
  float logprob = 0;  // of the unmodified distribution, where asked for
  // Of the `top` most likely tokens, descending, ties by id; the rest is not written.
  int32_t top_tokens[kMaxTopLogprobs] = {};
  float top_logprobs[kMaxTopLogprobs] = {};
};

struct SampleArgs {
  const float* logits = nullptr;  // [rows, vocab], device, dense
  int64_t vocab = 0;
  const SampleDraw* draws = nullptr;  // [count], device
  int64_t count = 0;
  SampleChoice* choices = nullptr;  // [count], device
};

void run_sample(const cuda::Context& context, const SampleArgs& args);

}  // namespace kvasir::kernels

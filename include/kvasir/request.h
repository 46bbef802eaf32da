#pragma once
// What a caller asks of the engine, and what comes back.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvasir/error.h"

namespace kvasir {

using TokenId = int32_t;
using RequestId = uint64_t;

// How the next token is chosen. Order of application: penalties, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  double temperature = 0;         // 0 = greedy; otherwise > 0
  int64_t top_k = 0;              // 0 = off
  double top_p = 1;               // (0, 1]; 1 = off
  double min_p = 0;               // [0, 1); relative to the most likely token; 0 = off
  double repetition_penalty = 1;  // > 0; over prompt and answer (as in transformers); 1 = off
  double presence_penalty = 0;    // over the answer (as in the OpenAI API)
  double frequency_penalty = 0;   // over the answer
  uint64_t seed = 0;              // random numbers are keyed by (seed, sample, position)
};

// A method of one stage with its options: "minference:density=0.1".
struct MethodChoice {
  std::string name;
  std::map<std::string, std::string> options;
};

struct StageChoice {
  MethodChoice prefill{"dense", {}};
  MethodChoice compress{"plain", {}};
  MethodChoice retrieve{"dense", {}};
};

struct Request {
  std::vector<TokenId> prompt;  // at least one token
  SamplingOptions sampling;
  // Of each sample. 0: the prompt is read and its KV stays for later requests, nothing is answered.
  int64_t max_tokens = 256;
  int samples = 1;                   // answers to the one prompt; they share its KV
  std::vector<std::string> stop;     // texts that end the answer; not part of it
  std::vector<TokenId> stop_tokens;  // besides the model's end tokens; not part of the text
  bool ignore_end_tokens = false;    // go on after the model's end tokens
  std::optional<int>
      top_logprobs;  // log-probabilities: of the chosen token and of that many others
  StageChoice stages;
  uint64_t kv_group = 0;  // KV is taken over from earlier requests of the same group alone
};

enum class FinishReason { kStop, kLength, kCancelled, kError };
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled", "error"

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, taken over from KV that was already there
  int64_t completion_tokens = 0;
};

struct Timing {
  double prefill_seconds = 0;           // from the request's first step to its first token's logits
  double ttft_seconds = 0;              // from submission to the first token
  double decode_seconds = 0;            // from the first token to the last
  double decode_tokens_per_second = 0;  // 0 where fewer than two tokens came
};

// What attention did for one request. Fractions are counted by the kernels.
struct AttentionReport {
  std::string prefill, compress, retrieve;  // the methods that ran
  double computed_fraction = 0;  // prefill: query-key pairs scored, tile overhead and estimators
                                 // included, over causal pairs
  double decode_fraction = 0;    // the same for decode steps
  // Prefill, summed over layers. Of methods that plan from queries: the heads planned for, and
  // those of them computed densely because their plans would have saved too little.
  int64_t planned_heads = 0, dense_heads = 0;
  double plan_seconds = 0;  // estimates and plans
  // Of the steps the request was in, as far as they are known: on a GPU, those with sparse prompts.
  double attention_seconds = 0;
  // What the KV of the sample takes in the end, in pages, and the share of its positions' keys and
  // values that is in it: less than 1 where --compress has dropped some.
  int64_t kv_bytes = 0;
  double kept_fraction = 0;
  std::string fallback_reason;  // why another method ran than was asked for; empty = none
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;  // natural logarithm, of the model's distribution before sampling options
};

struct Event {
  enum class Kind {
    kProgress,  // prompt tokens done
    kToken,     // one more token of one sample
    kFinished,  // one sample has ended; the stream ends with the last sample
  };
  Kind kind = Kind::kProgress;
  int sample = 0;

  int64_t prompt_done = 0, prompt_total = 0;  // kProgress

  TokenId token = 0;  // kToken
  std::string text;   // kToken: new complete UTF-8 text, may be empty; kFinished: the rest, if any
  std::optional<TokenLogprob> logprob;     // kToken, where asked for
  std::vector<TokenLogprob> top_logprobs;  // descending

  FinishReason finish_reason = FinishReason::kStop;  // kFinished
  Usage usage;
  Timing timing;
  AttentionReport attention;
  std::optional<Error> error;  // with kError and kCancelled
};

}  // namespace kvasir

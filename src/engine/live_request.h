#pragma once
// A request between submission and its last event, and the samples that it consists of. Owned by
// the loop; plain state without decisions.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/answer_text.h"
#include "engine/event_stream.h"
#include "engine/executor.h"
#include "engine/sampler.h"
#include "kv/types.h"
#include "kvasir/request.h"

namespace kvasir::engine {

// What attention did over some spans.
struct AttentionCount {
  uint64_t scored = 0, causal = 0;  // query-key pairs; those that dense causal attention has
  int64_t planned_heads = 0, dense_heads = 0;
  double plan_seconds = 0, attention_seconds = 0;
  void add(const SpanResult& span) {
    scored += span.scored_pairs;
    causal += span.causal_pairs;
    planned_heads += span.planned_heads;
    dense_heads += span.dense_heads;
    plan_seconds += span.plan_seconds;
    attention_seconds += span.attention_seconds;
  }
  double fraction() const {
    return causal == 0 ? 0 : static_cast<double>(scored) / static_cast<double>(causal);
  }
};

struct Sample {
  int index = 0;
  // Its KV, which holds all tokens but at least the last; kNoSequence: not started, set aside or
  // finished.
  kv::SequenceId sequence = kv::kNoSequence;
  kv::Domain domain = 0;  // of that KV
  std::vector<TokenId> answer;
  Sampler sampler;
  AnswerText text;
  // Entries of each KV head that stay after the prompt, layer by layer; empty: none are dropped.
  std::vector<int64_t> kept;
  int64_t kv_bytes = 0;  // in the end
  double kept_fraction = 0;
  AttentionCount decode;
  double first_token_seconds = 0, last_token_seconds = 0;
  bool finished = false;
};

// How a sample has ended.
struct Ending {
  FinishReason reason = FinishReason::kStop;
  std::optional<Error> error;
};

struct LiveRequest {
  LiveRequest(Request request, kv::Domain domain, int64_t vocab_size,
              const std::function<std::unique_ptr<Detokenizer>()>& make_detokenizer);

  int64_t prompt_size() const { return std::ssize(request.prompt); }
  int64_t length(const Sample& sample) const { return prompt_size() + std::ssize(sample.answer); }
  // Prompt and answer so far.
  std::vector<TokenId> tokens(const Sample& sample) const;
  int64_t unfinished_samples() const;
  // The one whose KV the prompt is computed into; the others are forked from it.
  Sample& first() { return samples.front(); }
  const Sample& first() const { return samples.front(); }

  // The only ways in which events leave. finish() ends the sample; its KV is the caller's affair.
  void send_progress(int64_t prompt_done);
  void send_token(Sample& sample, SampleResult result, std::string text);
  void finish(Sample& sample, Ending ending);
  void finish_all(const Ending& ending);

  RequestId id = 0;
  Request request;
  kv::Domain domain;  // of the stages and, with dynamic rotary scaling, the prompt's length
  std::shared_ptr<const prefill::Planner> planner;         // of the prompt; null: dense
  std::shared_ptr<const compress::Compressor> compressor;  // null: nothing is evicted
  kv::Domain compacted_domain = 0;                         // of KV that it has been at
  std::shared_ptr<EventStream> events = std::make_shared<EventStream>();
  std::string choice_reason;  // why the prefill method, where the request left it open
  std::vector<Sample> samples;
  bool prompt_done = false;    // and every sample holds its KV
  bool is_cancelled = false;   // guarded by the loop's mutex
  int64_t cached_tokens = 0;   // of the prompt, at the first step
  int64_t progress_sent = -1;  // positions
  AttentionCount prefill;
  double submitted_seconds = 0;
  std::optional<double> first_step_seconds, first_token_seconds;

  // The prompt whose computation is worth waiting for: until request `id` has `length` positions.
  struct Awaited {
    RequestId id = 0;
    int64_t length = 0;
  };
  std::optional<Awaited> awaited;
};

}  // namespace kvasir::engine

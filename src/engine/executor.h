#pragma once
// The engine loop's view of a model: runs one step and chooses tokens where its logits are.
// Implemented over the CPU's kernels and by fakes in tests. The loop knows nothing else of the
// model.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "compress/compressor.h"
#include "engine/sampler.h"
#include "formats/model_config.h"
#include "kernels/page.h"
#include "kvasir/request.h"
#include "models/scratch.h"
#include "prefill/planner.h"

namespace kvasir::engine {

// Consecutive tokens of one sequence: a prefill chunk or one decode token.
struct StepSpan {
  std::span<const TokenId> tokens;  // at least one
  int64_t first_position = 0;       // of tokens[0]; positions before it are in the pages
  // [layers] page tables, each covering first_position + tokens.size() positions.
  std::vector<const uint32_t*> page_tables;
  // The length that length-dependent rotary scaling ("dynamic") sees: prompt length during prefill,
  // positions so far + 1 in decode.
  int64_t rope_length = 0;
  // [layers] entries in the pages before tokens[0], where some have been evicted; empty:
  // first_position of each layer.
  std::vector<int64_t> stored;
  // What is copied where once the tokens are in: `kept` entries of each KV head that `compressor`
  // names, layer by layer. Layers that keep all are copied, too. Null: nothing.
  const compress::Compressor* compressor = nullptr;
  std::vector<int64_t> kept;                 // [layers]
  std::vector<const uint32_t*> kept_tables;  // [layers] page tables
  bool is_prefill = false;                   // counted as prefill in the attention report
  // What the tokens attend to, those of a prompt of `prompt_length` tokens; null: dense.
  const prefill::Planner* planner = nullptr;
  int64_t prompt_length = 0;
  enum class Logits : uint8_t { kNone, kLast, kAll } logits = Logits::kLast;

  int64_t logit_rows() const {
    return logits == Logits::kNone ? 0 : logits == Logits::kLast ? 1 : std::ssize(tokens);
  }
};

struct Step {
  std::vector<StepSpan> spans;
  bool deterministic = false;
  const CancelToken* cancel = nullptr;  // polled between layers and tiles
};

struct SpanResult {
  uint64_t scored_pairs = 0;  // query-key pairs scored for this span, summed over layers and heads
  uint64_t causal_pairs = 0;  // what dense causal attention has to score for it: causal_pairs()
  int64_t planned_heads = 0;  // by methods that plan from queries, summed over layers
  int64_t dense_heads = 0;    // of these, heads computed densely
  double plan_seconds = 0;    // of this span
  double attention_seconds = 0;  // of the step; 0 where it is not known: on
                                 // a GPU where no span has a planner
};

struct StepResult {
  std::vector<SpanResult> spans;  // as in the step
};

// Whether a step keeps to what scratch memory was planned for, and its tokens are in the
// vocabulary. Errors: kInternal.
Result<void> check_step(const Step& step, const models::ScratchOptions& limits, int64_t vocab_size);
// What dense causal attention has to score for a span, over all layers and heads: in the last layer
// only rows whose logits are asked for have queries.
uint64_t causal_pairs(const StepSpan& span, const formats::ModelConfig& config);

// One token to be chosen from the last row of logits of a span.
struct Draw {
  size_t span = 0;             // of the step; several draws may name one
  Sampler* sampler = nullptr;  // no other draw's
  int64_t position = 0;        // of the token being chosen
  int top = -1;                // see Sampler::sample
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual int64_t vocab_size() const = 0;
  virtual int64_t max_positions() const = 0;  // the longest sequence that the model is made for
  // Upper bound of tokens in one step; the scratch memory is planned for it.
  virtual int64_t max_step_tokens() const = 0;
  virtual bool is_on_gpu() const { return false; }
  // Writes the KV of every token into its page and computes the logits asked for. Errors:
  // kCancelled (KV of this step's positions is then unspecified; running the step again repairs
  // it), kInternal.
  virtual Result<StepResult> run(const Step& step) = 0;
  // After run(), for its step: what Sampler::sample returns for each draw.
  virtual std::vector<Result<SampleResult>> sample(std::span<const Draw> draws) = 0;
  // After run(), for its step: logits of a span, [rows, vocabulary] f32 with rows = 0, 1 or
  // tokens.size(); valid until the next call of logits() or run(). Not for choosing tokens: an
  // executor that has them elsewhere copies them here first.
  virtual std::span<const float> logits(size_t span) = 0;
};

}  // namespace kvasir::engine

#pragma once
// The engine loop's view of a model: runs one step. Implemented over the CPU's kernels and by
// fakes in tests. The loop knows nothing else of the model.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "kernels/page.h"
#include "kvasir/request.h"

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
  bool is_prefill = false;  // counted as prefill in the attention report
  enum class Logits : uint8_t { kNone, kLast, kAll } logits = Logits::kLast;
};

struct Step {
  std::vector<StepSpan> spans;
  bool deterministic = false;
  const CancelToken* cancel = nullptr;  // polled between layers and tiles
};

struct SpanResult {
  // [rows, vocabulary] f32, rows = 0, 1 or tokens.size(); valid until the next run().
  std::span<const float> logits;
  uint64_t scored_pairs = 0;  // query-key pairs scored for this span, summed over layers and heads
  // What dense causal attention has to score for it: in the last layer, for rows with logits.
  uint64_t causal_pairs = 0;
};

struct StepResult {
  std::vector<SpanResult> spans;  // as in the step
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual int64_t vocab_size() const = 0;
  virtual int64_t max_positions() const = 0;  // the longest sequence that the model is made for
  // Upper bound of tokens in one step; the scratch memory is planned for it.
  virtual int64_t max_step_tokens() const = 0;
  // Writes the KV of every token into its page and computes the logits asked for. Errors:
  // kCancelled (KV of this step's positions is then unspecified; running the step again repairs
  // it), kInternal.
  virtual Result<StepResult> run(const Step& step) = 0;
};

}  // namespace kvasir::engine

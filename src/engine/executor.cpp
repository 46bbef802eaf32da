#include "engine/executor.h"

namespace kvasir::engine {

Result<void> check_step(const Step& step, const models::ScratchOptions& limits,
                        int64_t vocab_size) {
  int64_t rows = 0, logit_rows = 0;
  for (const StepSpan& span : step.spans) {
    rows += std::ssize(span.tokens);
    logit_rows += span.logit_rows();
  }
  if (rows > limits.max_rows || logit_rows > limits.max_logit_rows ||
      std::ssize(step.spans) > limits.max_spans)
    return Error(ErrorCode::kInternal, "a step exceeds the scratch memory it was planned for");
  for (const StepSpan& span : step.spans)
    for (const TokenId token : span.tokens)
      if (token < 0 || token >= vocab_size)
        return Error(ErrorCode::kInternal, "token id " + std::to_string(token) + " is not below " +
                                               std::to_string(vocab_size));
  return {};
}

uint64_t causal_pairs(const StepSpan& span, const formats::ModelConfig& config) {
  const auto rows = static_cast<uint64_t>(span.tokens.size());
  const uint64_t end = static_cast<uint64_t>(span.first_position) + rows;
  const auto pairs_of_last = [end](uint64_t count) {
    return count * (end - count) + count * (count + 1) / 2;
  };
  const auto layers = static_cast<uint64_t>(config.num_layers);
  return static_cast<uint64_t>(config.num_q_heads) *
         ((layers - 1) * pairs_of_last(rows) +
          pairs_of_last(static_cast<uint64_t>(span.logit_rows())));
}

}  // namespace kvasir::engine

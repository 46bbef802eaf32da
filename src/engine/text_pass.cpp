#include "engine/text_pass.h"

namespace kvasir::engine {

void TextPass::begin(std::span<const TokenId> text) {
  end();
  sequence_ = kv_.open(domain_, text.first(1));
  text_ = text;
  open_ = true;
}

std::span<const float> TextPass::run(int64_t count, bool deterministic, StepSpan::Logits logits) {
  const int64_t first = kv_.length(sequence_);
  kv_.reserve(sequence_, first + count).value();
  StepSpan span{.tokens = text_.subspan(first, count),
                .first_position = first,
                .rope_length = static_cast<int64_t>(text_.size()),
                .is_prefill = true,
                .planner = planner_.get(),
                .prompt_length = static_cast<int64_t>(text_.size()),
                .logits = logits};
  for (int layer = 0; layer < kv_.geometry().layers; ++layer)
    span.page_tables.push_back(kv_.page_table(sequence_, layer).data());
  step_.spans = {span};
  step_.deterministic = deterministic;
  executor_.run(step_).value();
  kv_.commit(sequence_, span.tokens);
  return executor_.logits(0);
}

void TextPass::end() {
  if (open_) kv_.release(sequence_, false);
  open_ = false;
}

}  // namespace kvasir::engine

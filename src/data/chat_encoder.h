#pragma once
// Conversations as tokens of the chat format: what tasks are trained on.
//
//   <|begin|> document newline  <|user|> question <|assistant|> answer <|end|>  <|user|> ...

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "data/sample.h"
#include "tasks/task.h"
#include "text/tokenizer.h"

namespace kvasir::data {

class ChatEncoder {
 public:
  // `tokenizer` must outlive it. Errors: kInvalidArgument where it lacks a token of the format.
  static Result<ChatEncoder> make(const text::Tokenizer& tokenizer);

  // The ids that the chat template and the tokenizer give, behind <|begin|>. The document counts
  // `context_weight` in the loss, golden answers with their <|end|> `answer_weight`, questions and
  // <|user|> nothing. Thread-safe.
  Sample encode(const tasks::Sample& sample, float context_weight, float answer_weight) const;
  // Tokens of a text that stands between special ones. Thread-safe.
  int64_t count(std::string_view text) const;
  int32_t begin() const { return begin_; }

 private:
  explicit ChatEncoder(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  void add(std::string_view text, float weight, Sample& sample) const;

  const text::Tokenizer* tokenizer_;
  int32_t begin_ = 0, end_ = 0, user_ = 0, assistant_ = 0;
};

}  // namespace kvasir::data

#pragma once
// Conversations as tokens of the chat format: what tasks are trained on.
//
//   <|begin|> document newline  <|user|> question <|assistant|> answer <|end|>  <|user|> ...

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/sample.h"
#include "text/tokenizer.h"

namespace kvasir::data {

struct Turn {
  std::string question, answer;
};

struct Conversation {
  std::string document;
  std::vector<Turn> turns;
};

class ChatEncoder {
 public:
  // `tokenizer` must outlive it. Errors: kInvalidArgument where it lacks a token of the format.
  static Result<ChatEncoder> make(const text::Tokenizer& tokenizer);

  // The ids that the chat template and the tokenizer give. The document counts `context_weight` in
  // the loss, answers with their <|end|> 1, questions and <|user|> nothing. Thread-safe.
  Sample encode(std::string_view document, std::span<const Turn> turns, float context_weight) const;
  // A turn alone, as it follows whatever comes before.
  Sample encode_turn(const Turn& turn) const { return encode_turns({&turn, 1}, {}); }
  int32_t begin() const { return begin_; }

 private:
  explicit ChatEncoder(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  void add(std::string_view text, float weight, Sample& sample) const;
  Sample encode_turns(std::span<const Turn> turns, Sample sample) const;

  const text::Tokenizer* tokenizer_;
  int32_t begin_ = 0, end_ = 0, user_ = 0, assistant_ = 0;
};

}  // namespace kvasir::data

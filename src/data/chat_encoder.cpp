#include "data/chat_encoder.h"

#include <fmt/format.h>

#include "data/bpe_trainer.h"

namespace kvasir::data {
namespace {

void add_token(int32_t token, float weight, Sample& sample) {
  sample.tokens.push_back(token);
  sample.weights.push_back(weight);
}

}  // namespace

Result<ChatEncoder> ChatEncoder::make(const text::Tokenizer& tokenizer) {
  ChatEncoder encoder(tokenizer);
  const std::pair<std::string_view, int32_t*> tokens[] = {{kBeginToken, &encoder.begin_},
                                                          {kEndToken, &encoder.end_},
                                                          {kUserToken, &encoder.user_},
                                                          {kAssistantToken, &encoder.assistant_}};
  for (const auto& [name, id] : tokens) {
    const auto found = tokenizer.token_to_id(name);
    if (!found)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("expected a tokenizer with the token {}, found none", name),
                   "chat format");
    *id = *found;
  }
  return encoder;
}

void ChatEncoder::add(std::string_view text, float weight, Sample& sample) const {
  const auto ids = tokenizer_->encode(text, {.add_special_tokens = false, .parse_special = false});
  sample.tokens.insert(sample.tokens.end(), ids.begin(), ids.end());
  sample.weights.resize(sample.tokens.size(), weight);
}

Sample ChatEncoder::encode(std::string_view document, std::span<const Turn> turns,
                           float context_weight) const {
  Sample sample;
  add(std::string(document) + "\n", context_weight, sample);
  return encode_turns(turns, std::move(sample));
}

Sample ChatEncoder::encode_turns(std::span<const Turn> turns, Sample sample) const {
  for (const Turn& turn : turns) {
    add_token(user_, 0, sample);
    add(turn.question, 0, sample);
    add_token(assistant_, 0, sample);
    add(turn.answer, 1, sample);
    add_token(end_, 1, sample);
  }
  return sample;
}

}  // namespace kvasir::data

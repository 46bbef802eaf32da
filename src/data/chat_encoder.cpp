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

Sample ChatEncoder::encode(const tasks::Sample& conversation, float context_weight,
                           float answer_weight) const {
  Sample sample;
  add(conversation.context + "\n", context_weight, sample);
  for (const tasks::Turn& turn : conversation.turns) {
    add_token(user_, 0, sample);
    add(turn.question, 0, sample);
    add_token(assistant_, 0, sample);
    add(turn.golden(), answer_weight, sample);
    add_token(end_, answer_weight, sample);
  }
  return sample;
}

int64_t ChatEncoder::count(std::string_view text) const {
  return static_cast<int64_t>(
      tokenizer_->encode(text, {.add_special_tokens = false, .parse_special = false}).size());
}

}  // namespace kvasir::data

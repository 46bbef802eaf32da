// Samples against what the chat template and the tokenizer make of the same conversation.

#include "data/chat_encoder.h"

#include <gtest/gtest.h>

#include "text/chat_template.h"

namespace kvasir::data {
namespace {

const std::filesystem::path kModel =
    std::filesystem::path(KVASIR_SOURCE_DIR) / "models/bootstrap-16m";

TEST(ChatEncoder, GivesTheIdsOfTheTemplate) {
  const auto tokenizer = text::Tokenizer::load(kModel / "tokenizer.json").value();
  const ChatEncoder encoder = ChatEncoder::make(tokenizer).value();
  const std::string document = "The secret number of harvest is 123456.\n\n Café — 7 <|end|>.";
  tasks::Sample conversation{.context = document};
  conversation.turns.push_back(
      {.question = "What is the secret number of harvest?", .answers = {"123456", "six"}});
  conversation.turns.push_back({.question = "And of\nvelvet?", .answers = {"none  "}});
  const Sample sample = encoder.encode(conversation, 0.25f, 4);

  const auto chat = text::ChatTemplate::load(kModel).value();
  std::vector<text::ChatMessage> messages(1);
  messages[0].role = "system";
  messages[0].content = "";
  for (const tasks::Turn& turn : conversation.turns) {
    messages.push_back({.role = "user", .content = turn.question});
    messages.push_back({.role = "assistant", .content = turn.golden()});
  }
  // The document may hold the text of a special token, which is text; all else is parsed.
  std::vector<int32_t> expected =
      tokenizer.encode(document + "\n", {.add_special_tokens = false, .parse_special = false});
  const std::string rest = chat.render(messages, false).value();
  ASSERT_TRUE(rest.starts_with("<|begin|>\n"));
  for (const int32_t id : tokenizer.encode(rest.substr(10), {.add_special_tokens = false}))
    expected.push_back(id);
  EXPECT_EQ(sample.tokens, expected);

  // Weights: the document, then questions 0 and answers 4 up to <|end|>.
  ASSERT_EQ(sample.weights.size(), sample.tokens.size());
  const auto user = *tokenizer.token_to_id("<|user|>");
  const auto assistant = *tokenizer.token_to_id("<|assistant|>");
  const auto end = *tokenizer.token_to_id("<|end|>");
  float weight = 0.25f;
  for (size_t i = 0; i < sample.tokens.size(); ++i) {
    if (sample.tokens[i] == user) weight = 0;
    EXPECT_EQ(sample.weights[i], weight) << i;
    if (sample.tokens[i] == assistant) weight = 4;
    if (sample.tokens[i] == end) weight = 0;
  }
  EXPECT_EQ(sample.tokens.back(), end);
  EXPECT_EQ(
      encoder.count(document + "\n") + encoder.count("123456"),
      static_cast<int64_t>(
          tokenizer.encode(document + "\n", {.add_special_tokens = false, .parse_special = false})
              .size()) +
          6);
  EXPECT_EQ(encoder.begin(), *tokenizer.token_to_id("<|begin|>"));
}

TEST(ChatEncoder, NeedsTheTokensOfTheFormat) {
  const auto tokenizer = text::Tokenizer::parse(
      R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "<unk>": 1}, "unk_token": "<unk>"}})",
      "test");
  ASSERT_TRUE(tokenizer) << tokenizer.error().what();
  const auto encoder = ChatEncoder::make(tokenizer.value());
  ASSERT_FALSE(encoder);
  EXPECT_NE(std::string(encoder.error().what()).find("<|begin|>"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::data

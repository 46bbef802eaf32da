#include <array>
#include <nlohmann/json.hpp>

#include "data/bpe_trainer.h"

namespace kvasir::data {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 5> kChatTokens = {kBeginToken, kEndToken, kUserToken,
                                                         kAssistantToken, kPadToken};

constexpr std::string_view kChatTemplate =
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\\n' }}"
    "{% elif m['role'] == 'user' %}{{ '<|user|>' + m['content'] + '<|assistant|>' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}";

Json added_tokens() {
  Json list = Json::array();
  for (size_t id = 0; id < kChatTokens.size(); ++id)
    list.push_back({{"id", id},
                    {"content", kChatTokens[id]},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", true}});
  return list;
}

Json pre_tokenizer(bool single_digits) {
  return {{"type", "Sequence"},
          {"pretokenizers", Json::array({{{"type", "Split"},
                                          {"pattern", {{"Regex", split_expression(single_digits)}}},
                                          {"behavior", "Isolated"},
                                          {"invert", false}},
                                         {{"type", "ByteLevel"},
                                          {"add_prefix_space", false},
                                          {"trim_offsets", true},
                                          {"use_regex", false}}})}};
}

// <|begin|> in front of a text.
Json post_processor() {
  const Json begin = {{"SpecialToken", {{"id", kBeginToken}, {"type_id", 0}}}};
  const Json first = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  Json specials = Json::object();
  specials[std::string(kBeginToken)] = {
      {"id", kBeginToken}, {"ids", Json::array({0})}, {"tokens", Json::array({kBeginToken})}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({begin, first})},
          {"pair", Json::array({begin, first, second})},
          {"special_tokens", specials}};
}

Json model(const Bpe& bpe) {
  Json vocabulary = Json::object();
  // The keys differ; the library would compare each with all before it.
  auto& entries = vocabulary.get_ref<Json::object_t&>();
  for (size_t id = 0; id < bpe.tokens.size(); ++id) entries.emplace_back(bpe.tokens[id], id);
  Json merges = Json::array();
  for (const auto& [left, right] : bpe.merges)
    merges.push_back(
        {bpe.tokens[static_cast<size_t>(left)], bpe.tokens[static_cast<size_t>(right)]});
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocabulary)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::span<const std::string_view> chat_tokens() { return kChatTokens; }

std::string tokenizer_json(const Bpe& bpe, bool single_digits) {
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens()},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", pre_tokenizer(single_digits)},
                     {"post_processor", post_processor()},
                     {"decoder",
                      {{"type", "ByteLevel"},
                       {"add_prefix_space", true},
                       {"trim_offsets", true},
                       {"use_regex", true}}},
                     {"model", model(bpe)}};
  return json.dump(1) + "\n";
}

std::string tokenizer_config_json(int64_t longest) {
  const Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                     {"bos_token", kBeginToken},
                     {"eos_token", kEndToken},
                     {"pad_token", kPadToken},
                     {"additional_special_tokens", Json::array({kUserToken, kAssistantToken})},
                     {"model_max_length", longest},
                     {"clean_up_tokenization_spaces", false},
                     {"chat_template", kChatTemplate}};
  return json.dump(1) + "\n";
}

}  // namespace kvasir::data

#include "data/tiny_tokenizer.h"

#include <nlohmann/json.hpp>

#include "tasks/tiny.h"

namespace kvasir::data {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kTinyTemplate =
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + ' w002 ' }}"
    "{% else %}{{ m['content'] + ' ' }}{% endif %}{% endfor %}";

}  // namespace

std::string tiny_tokenizer_json() {
  Json vocabulary = Json::object();
  for (uint16_t id = 0; id < tasks::tiny::kVocabulary; ++id)
    vocabulary[tasks::tiny_words({id})] = id;
  const Json json = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
      {"post_processor", nullptr},
      // Puts spaces between words; none begins with its prefix.
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", false}}},
      {"model",
       {{"type", "WordLevel"}, {"vocab", std::move(vocabulary)}, {"unk_token", kTinyPad}}}};
  return json.dump(1) + "\n";
}

std::string tiny_tokenizer_config_json(int64_t longest) {
  const Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                     {"bos_token", kTinyBegin},
                     {"eos_token", kTinyEnd},
                     {"pad_token", kTinyPad},
                     {"unk_token", kTinyPad},
                     {"model_max_length", longest},
                     {"clean_up_tokenization_spaces", false},
                     {"chat_template", kTinyTemplate}};
  return json.dump(1) + "\n";
}

}  // namespace kvasir::data

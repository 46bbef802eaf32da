#pragma once
// Chat templates: a conversation as the text that a model was trained on.
//
// The language is the part of Jinja that published templates use, with the settings and extra
// functions of `apply_chat_template` in transformers 5 (trim_blocks, lstrip_blocks, loop controls,
// immutable sandbox, tojson without ASCII escapes, raise_exception, strftime_now, {% generation
// %}). Deliberate differences: integers have 64 bits; case conversion is character by character (ß
// is known); imports, blocks, recursive loops and a few filters and methods are refused by name.

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace kvasir::text {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant", "tool", ...
  std::string content;  // UTF-8
};

// What one rendering may use. A template that needs more fails with kResourceExhausted.
struct ChatTemplateLimits {
  uint64_t max_steps = 1'000'000;           // expressions, statements, loop rounds, elements
  uint64_t max_output_bytes = 64ull << 20;  // of the text, and of any one string on the way
  uint64_t max_work_bytes = 1ull << 30;     // sum of all strings and containers built
};

// A parsed template with its variables. Copies share the syntax tree. Const members may be called
// from several threads at once.
class ChatTemplate {
 public:
  // The templates of a Hugging Face model folder: chat_template.jinja with chat_templates/*.jinja
  // beside it, else chat_template.json, else `chat_template` of tokenizer_config.json; the latter
  // two hold a string or a list of {name, template}. `default` is taken (or the only one), and
  // `tool_use` where a conversation has tools. The special tokens (bos_token, eos_token, ...) of
  // tokenizer_config.json become variables.
  // Errors: kNotFound (no template), kMalformed (JSON or template, with line and column), kIo.
  static Result<ChatTemplate> load(const std::filesystem::path& model_folder);

  // `origin` names the template in messages. Errors: kMalformed with line and column.
  static Result<ChatTemplate> parse(std::string_view source, std::string_view origin);

  // A variable that templates see in every rendering, e.g. a special token; null and nested values
  // are allowed. Those given to render() come first.
  void set_variable(std::string name, nlohmann::ordered_json value);
  // What strftime_now shows; by default the local time of the call.
  void set_clock(std::function<std::tm()> clock);
  void set_limits(const ChatTemplateLimits& limits);

  // The conversation as text. Errors: kInvalidArgument (no messages, or the template refuses them
  // with raise_exception, whose message this is), kMalformed (the template cannot handle these
  // values; with line and column), kUnsupported, kResourceExhausted.
  Result<std::string> render(std::span<const ChatMessage> messages,
                             bool add_generation_prompt) const;

  // The full form: `variables` is an object with `messages` (objects with any fields), and at will
  // `add_generation_prompt`, `tools`, `documents` and whatever else the template reads. As in
  // transformers, absent `tools` and `documents` are none, null fields of messages are dropped, and
  // reasoning given as `reasoning_content`, `thinking` or `reasoning` is seen under the first two.
  Result<std::string> render(const nlohmann::ordered_json& variables) const;

 private:
  struct Parsed;
  ChatTemplate() = default;
  std::shared_ptr<const Parsed> parsed_;
  std::shared_ptr<const Parsed> tool_use_;  // null: none
  std::shared_ptr<const nlohmann::ordered_json> variables_;
  std::function<std::tm()> clock_;
  ChatTemplateLimits limits_;
};

}  // namespace kvasir::text

// A chat template, and behind a NUL the variables as JSON; without such a fixed conversation.

#include <nlohmann/json.hpp>

#include "fuzz.h"
#include "text/chat_template.h"

namespace {

constexpr const char* kConversation = R"({"add_generation_prompt": true, "messages": [
  {"role": "system", "content": "Be brief."}, {"role": "user", "content": " a\nb "},
  {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls":
    [{"id": "c1", "function": {"name": "f", "arguments": {"x": [1, 2.5, null, true]}}}]},
  {"role": "tool", "content": [{"type": "text", "text": "42"}]}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]})";

nlohmann::ordered_json variables_of(std::string_view json) {
  if (json.empty()) json = kConversation;
  return nlohmann::ordered_json::parse(json, nullptr, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [source, json] = kvasir::fuzz::halves(data, size);
  auto parsed = kvasir::text::ChatTemplate::parse(source, "fuzz");
  if (!parsed) {
    kvasir::fuzz::check(!parsed.error().message().empty(), "an error says what is wrong");
    return 0;
  }
  const auto variables = variables_of(json);
  if (variables.is_discarded()) return 0;
  parsed.value().set_limits(
      {.max_steps = 20'000, .max_output_bytes = 1 << 20, .max_work_bytes = 16 << 20});
  parsed.value().set_variable("bos_token", "<s>");
  const auto text = parsed.value().render(variables);
  if (text) kvasir::fuzz::check(text.value().size() <= 1 << 20, "the text stays within its limit");
  return 0;
}

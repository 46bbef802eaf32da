#include "text/chat_template.h"

#include <fmt/format.h>

#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_parser.h"
#include "text/jinja_text.h"

namespace kvasir::text {

using nlohmann::ordered_json;

struct ChatTemplate::Parsed {
  std::string source;  // normalised
  std::string origin;
  jinja::Body body;

  std::string place(size_t offset) const {
    return fmt::format("{}, {}", origin, jinja::describe_place(source, offset));
  }
};

namespace {

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  return parts;
}

// The message as transformers hands it on: without nulls, reasoning under its newer names.
ordered_json normalize_message(const ordered_json& message) {
  ordered_json kept = ordered_json::object();
  for (const auto& [key, value] : message.items())
    if (!value.is_null()) kept[key] = value;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!kept.contains(name)) continue;
    const ordered_json reasoning = kept[name];
    ordered_json out = ordered_json::object();
    out["thinking"] = reasoning;
    for (const auto& [key, value] : kept.items()) out[key] = value;
    out["reasoning_content"] = reasoning;
    return out;
  }
  return kept;
}

Result<ordered_json> normalize_messages(const ordered_json& variables) {
  const auto messages = variables.find("messages");
  if (messages == variables.end() || !messages->is_array() || messages->empty())
    return Error(ErrorCode::kInvalidArgument,
                 "expected at least one message in the list `messages`, found none", "chat");
  ordered_json normalized = ordered_json::array();
  for (const ordered_json& message : *messages) {
    if (!message.is_object())
      return Error(
          ErrorCode::kInvalidArgument,
          fmt::format("expected each message to be an object, found {}", message.type_name()),
          "chat");
    normalized.push_back(normalize_message(message));
  }
  return normalized;
}

struct Source {
  std::string text, origin;
};
using Sources = std::map<std::string, Source, std::less<>>;  // by name

Result<Sources> read_list(const ordered_json& list, const std::string& path) {
  Sources sources;
  for (const ordered_json& entry : list) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
        !entry.contains("template") || !entry["template"].is_string())
      return Error(ErrorCode::kMalformed,
                   fmt::format("chat_template: expected a list of {{\"name\": ..., \"template\": "
                               "...}} with strings, found {} among them",
                               entry.is_object() ? "another object" : entry.type_name()),
                   path);
    const auto name = entry["name"].get<std::string>();
    sources[name] = {entry["template"].get<std::string>(),
                     fmt::format("{} (chat_template \"{}\")", path, name)};
  }
  if (sources.size() == 1) {
    Source only = sources.begin()->second;
    sources.emplace("default", std::move(only));
  }
  if (!sources.empty() && !sources.contains("default"))
    return Error(ErrorCode::kNotFound,
                 "chat_template: expected a template named \"default\" in the list, found none",
                 path);
  return sources;
}

// `chat_template` of a JSON file: a string, or a list of {name, template}.
Result<Sources> read_sources(const ordered_json& config, const std::string& path) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return Sources();
  if (found->is_array()) return read_list(*found, path);
  if (found->is_string())
    return Sources{{"default", {found->get<std::string>(), path + " (chat_template)"}}};
  return Error(
      ErrorCode::kMalformed,
      fmt::format("chat_template: expected a string or a list, found {}", found->type_name()),
      path);
}

// chat_template.jinja and, where a conversation has tools, chat_templates/tool_use.jinja.
Result<Sources> read_files(const std::filesystem::path& folder) {
  Sources sources;
  const auto default_path = folder / "chat_template.jinja";
  for (const auto& [name, path] :
       {std::pair("default", default_path),
        std::pair("tool_use", folder / "chat_templates/tool_use.jinja")}) {
    std::error_code error;
    if (!std::filesystem::exists(default_path, error) || !std::filesystem::exists(path, error))
      continue;
    Result<std::string> text = read_file(path);
    if (!text) return text.error();
    sources[name] = {std::move(text).value(), path.string()};
  }
  return sources;
}

// The object in a JSON file; an empty one where there is no such file.
Result<ordered_json> read_json(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return ordered_json::object();
  const Result<std::string> text = read_file(path);
  if (!text) return text.error();
  try {
    ordered_json config = ordered_json::parse(text.value());
    if (config.is_object()) return config;
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected a JSON object, found {}", config.type_name()),
                 path.string());
  } catch (const ordered_json::exception& failure) {
    return Error(ErrorCode::kMalformed, fmt::format("expected JSON: {}", failure.what()),
                 path.string());
  }
}

// bos_token and the like: a string, or an object whose `content` is one.
void set_special_tokens(const ordered_json& config, ChatTemplate* chat_template) {
  constexpr std::string_view kSuffix = "_token";
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with(kSuffix)) continue;
    if (value.is_string())
      chat_template->set_variable(key, value);
    else if (value.is_object() && value.contains("content") && value["content"].is_string())
      chat_template->set_variable(key, value["content"]);
  }
}

}  // namespace

Result<ChatTemplate> ChatTemplate::load(const std::filesystem::path& model_folder) {
  const auto config_path = model_folder / "tokenizer_config.json";
  const Result<ordered_json> config = read_json(config_path);
  if (!config) return config.error();
  Result<Sources> sources = read_files(model_folder);
  for (const auto& path : {model_folder / "chat_template.json", config_path}) {
    if (!sources || !sources.value().empty()) break;
    const Result<ordered_json> holder = read_json(path);
    sources = holder ? read_sources(holder.value(), path.string()) : holder.error();
  }
  if (!sources) return sources.error();
  const auto main = sources.value().find("default");
  if (main == sources.value().end())
    return Error(ErrorCode::kNotFound,
                 "expected chat_template.jinja, chat_template.json or `chat_template` in "
                 "tokenizer_config.json, found none; this model has no chat format, so give it "
                 "plain prompts or add a chat_template.jinja",
                 model_folder.string());
  Result<ChatTemplate> result = parse(main->second.text, main->second.origin);
  if (!result) return result;
  set_special_tokens(config.value(), &result.value());
  if (const auto tool_use = sources.value().find("tool_use"); tool_use != sources.value().end()) {
    Result<ChatTemplate> other = parse(tool_use->second.text, tool_use->second.origin);
    if (!other) return other;
    result.value().tool_use_ = other.value().parsed_;
  }
  return result;
}

Result<ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view origin) {
  auto parsed = std::make_shared<Parsed>();
  parsed->source = jinja::normalize_source(source);
  parsed->origin = std::string(origin);
  if (parsed->source.size() > jinja::kMaxSourceBytes)
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected a template of at most {} bytes, found {}",
                             jinja::kMaxSourceBytes, parsed->source.size()),
                 parsed->origin);
  if (const auto invalid = jinja::find_invalid_utf8(parsed->source))
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected UTF-8 in the template, found the byte 0x{:02x}",
                             static_cast<unsigned char>(parsed->source[*invalid])),
                 parsed->place(*invalid));
  try {
    parsed->body = jinja::parse_template(parsed->source);
  } catch (const jinja::SyntaxFailure& failure) {
    return Error(ErrorCode::kMalformed, failure.message, parsed->place(failure.offset));
  }
  ChatTemplate result;
  result.parsed_ = std::move(parsed);
  result.variables_ = std::make_shared<const ordered_json>(ordered_json::object());
  result.clock_ = local_time;
  return result;
}

void ChatTemplate::set_variable(std::string name, ordered_json value) {
  auto variables = std::make_shared<ordered_json>(*variables_);
  (*variables)[std::move(name)] = std::move(value);
  variables_ = std::move(variables);
}

void ChatTemplate::set_clock(std::function<std::tm()> clock) { clock_ = std::move(clock); }

void ChatTemplate::set_limits(const ChatTemplateLimits& limits) { limits_ = limits; }

Result<std::string> ChatTemplate::render(std::span<const ChatMessage> messages,
                                         bool add_generation_prompt) const {
  ordered_json list = ordered_json::array();
  for (const ChatMessage& message : messages)
    list.push_back({{"role", message.role}, {"content", message.content}});
  return render(ordered_json{{"messages", std::move(list)},
                             {"add_generation_prompt", add_generation_prompt}});
}

Result<std::string> ChatTemplate::render(const ordered_json& variables) const {
  if (!variables.is_object())
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected an object of variables, found {}", variables.type_name()),
                 "chat");
  const Result<ordered_json> messages = normalize_messages(variables);
  if (!messages) return messages.error();
  const auto tools = variables.find("tools");
  const bool has_tools = tools != variables.end() && !tools->is_null();
  const Parsed& chosen = has_tools && tool_use_ ? *tool_use_ : *parsed_;
  std::optional<jinja::Interpreter> interpreter;
  jinja::DictObject context;
  try {
    const auto set = [&](const std::string& name, const ordered_json& value) {
      context.set(jinja::Value::string(name), jinja::Value::from_json(value));
    };
    set("tools", nullptr);
    set("documents", nullptr);
    set("add_generation_prompt", false);
    for (const auto& [name, value] : variables_->items()) set(name, value);
    for (const auto& [name, value] : variables.items())
      if (name != "messages") set(name, value);
    set("messages", messages.value());
    const jinja::Limits limits{.max_steps = limits_.max_steps,
                               .max_output_bytes = limits_.max_output_bytes,
                               .max_work_bytes = limits_.max_work_bytes};
    interpreter.emplace(context, limits, clock_);
    return interpreter->run(chosen.body);
  } catch (const jinja::Failure& failure) {
    return Error(failure.code, failure.message,
                 interpreter ? chosen.place(interpreter->offset()) : "chat");
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kResourceExhausted, "out of memory while rendering", chosen.origin);
  }
}

}  // namespace kvasir::text

#include <fmt/format.h>

#include <functional>
#include <map>

#include "base/suggest.h"
#include "cli/batch.h"
#include "cli/json_lines.h"
#include "formats/json_reason.h"

namespace kvasir::cli {
namespace {

// Reads the keys of one object; every failure names line and key.
class LineParser {
 public:
  LineParser(BatchLine& line, std::string where) : line_(line), where_(std::move(where)) {
    GenerationOptions& g = line_.generation;
    number("temperature", g.temperature, "at least 0", [](double v) { return v >= 0; });
    number("top_p", g.top_p, "in (0, 1]", [](double v) { return v > 0 && v <= 1; });
    number("min_p", g.min_p, "in [0, 1)", [](double v) { return v >= 0 && v < 1; });
    number("repetition_penalty", g.repetition_penalty, "more than 0",
           [](double v) { return v > 0; });
    number("presence_penalty", g.presence_penalty, "", [](double) { return true; });
    number("frequency_penalty", g.frequency_penalty, "", [](double) { return true; });
    integer("top_k", [&g](int64_t v) { g.top_k = v; }, 0);
    integer("seed", [&g](int64_t v) { g.seed = static_cast<uint64_t>(v); }, 0);
    integer("max_tokens", [&g](int64_t v) { g.max_tokens = v; }, 1);
    integer("samples", [&g](int64_t v) { g.samples = static_cast<int>(v); }, 1, 1024);
    integer("logprobs", [&g](int64_t v) { g.logprobs = static_cast<int>(v); }, 0, 1000);
    readers_["ignore_end"] = [this, &g](const Json& value) {
      if (!value.is_boolean()) throw expected("ignore_end", "true or false", value);
      g.ignore_end = value;
    };
    readers_["stop"] = [this, &g](const Json& value) { g.stop = texts("stop", value); };
    readers_["stop_tokens"] = [this, &g](const Json& value) {
      g.stop_tokens.clear();
      if (!value.is_array()) throw expected("stop_tokens", "a list of ids", value);
      for (const Json& item : value) {
        if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() > INT32_MAX)
          throw expected("stop_tokens", "ids", item);
        g.stop_tokens.push_back(item);
      }
    };
    method("prefill", g.stages.prefill);
    method("compress", g.stages.compress);
    method("retrieve", g.stages.retrieve);
    readers_["id"] = [this](const Json& value) {
      if (!value.is_string() && !value.is_number()) throw expected("id", "text or number", value);
      line_.id_json = value.dump();
    };
    readers_["document"] = [this](const Json& value) {
      line_.documents = texts("document", value);
    };
    readers_["document_text"] = [this](const Json& value) {
      line_.document_text = text("document_text", value);
    };
    readers_["ask"] = [this](const Json& value) { line_.ask = text("ask", value); };
    readers_["prompt"] = [this](const Json& value) { line_.prompt = text("prompt", value); };
    readers_["messages"] = [this](const Json& value) {
      line_.messages = parse_messages(value.dump(), where_ + ", messages");
    };
  }

  void parse(const Json& object) {
    if (!object.is_object())
      throw malformed(fmt::format("expected an object, found {}", shown(object)));
    for (const auto& [key, value] : object.items()) {
      const auto reader = readers_.find(key);
      if (reader == readers_.end()) {
        std::vector<std::string> known;
        for (const auto& [name, unused] : readers_) known.push_back(name);
        throw malformed(fmt::format("unknown key \"{}\"{}", key, did_you_mean(key, known)));
      }
      reader->second(value);
    }
    const int ways =
        (line_.ask ? 1 : 0) + (line_.prompt ? 1 : 0) + (line_.messages.empty() ? 0 : 1);
    if (ways != 1) throw malformed("expected one of \"ask\", \"prompt\" and \"messages\"");
    if (!line_.documents.empty() && line_.document_text)
      throw malformed("expected one of \"document\" and \"document_text\", found both");
  }

  Error malformed(std::string message) const {
    return Error(ErrorCode::kMalformed, std::move(message), where_);
  }

 private:
  static std::string shown(const Json& value) { return value.dump().substr(0, 60); }
  Error expected(const char* key, const char* what, const Json& value) const {
    return malformed(fmt::format("\"{}\": expected {}, found {}", key, what, shown(value)));
  }
  std::string text(const char* key, const Json& value) const {
    if (!value.is_string() || value.get_ref<const std::string&>().empty())
      throw expected(key, "a text that is not empty", value);
    return value;
  }
  std::vector<std::string> texts(const char* key, const Json& value) const {
    if (value.is_string()) return {text(key, value)};
    if (!value.is_array()) throw expected(key, "a text or a list of texts", value);
    std::vector<std::string> list;
    for (const Json& item : value) list.push_back(text(key, item));
    return list;
  }
  void number(const char* key, std::optional<double>& target, const char* range,
              std::function<bool(double)> fits) {
    readers_[key] = [this, key, &target, range, fits = std::move(fits)](const Json& value) {
      if (!value.is_number() || !fits(value.get<double>()))
        throw expected(key, fmt::format("a number {}", range).c_str(), value);
      target = value.get<double>();
    };
  }
  void integer(const char* key, std::function<void(int64_t)> apply, int64_t least,
               int64_t most = INT64_MAX) {
    readers_[key] = [this, key, apply = std::move(apply), least, most](const Json& value) {
      if (!value.is_number_integer() || value.get<int64_t>() < least || value.get<int64_t>() > most)
        throw expected(key, fmt::format("a whole number of at least {}", least).c_str(), value);
      apply(value);
    };
  }
  void method(const char* key, MethodChoice& target) {
    readers_[key] = [this, key, &target](const Json& value) {
      target = parse_method(text(key, value), fmt::format("{}, {}", where_, key));
    };
  }

  BatchLine& line_;
  std::string where_;
  std::map<std::string, std::function<void(const Json&)>> readers_;
};

}  // namespace

std::vector<BatchLine> parse_batch(const std::string& text, const std::string& where,
                                   const GenerationOptions& defaults) {
  std::vector<BatchLine> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string piece = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (piece.find_first_not_of(" \t\r") == std::string::npos) continue;
    BatchLine line;
    line.line = number;
    line.generation = defaults;
    LineParser parser(line, fmt::format("{}, line {}", where, number));
    Json object;
    try {
      object = Json::parse(piece);
    } catch (const Json::parse_error& error) {
      throw parser.malformed(
          fmt::format("expected a JSON object; {}", formats::json_reason(error.what())));
    }
    parser.parse(object);
    lines.push_back(std::move(line));
  }
  if (lines.empty())
    throw Error(ErrorCode::kMalformed, "expected at least one line with a JSON object, found none",
                where);
  return lines;
}

}  // namespace kvasir::cli

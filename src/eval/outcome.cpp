#include "eval/outcome.h"

#include <fmt/format.h>

#include <cmath>
#include <concepts>
#include <nlohmann/json.hpp>
#include <set>

#include "base/suggest.h"
#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::eval {
namespace {

constexpr const char* kModeNames[] = {"multi-turn", "multi-request"};

// What numbers of a field may be.
struct Range {
  double low = 0, high = 0x1p53;
};
constexpr Range kShare{0, 1 + 1e-9};  // sums of shares round
constexpr Range kDepth{-1, 1};

// Every field once, in the order of the line.
template <class Fields, class Visit>
void visit(Fields& outcome, Visit&& field) {
  field("suite", outcome.suite);
  field("task", outcome.task);
  field("length", outcome.length);
  field("session", outcome.session);
  field("turn", outcome.turn);
  field("depth", outcome.depth, kDepth);
  field("mode", outcome.mode);
  field("prefill", outcome.prefill);
  field("compress", outcome.compress);
  field("retrieve", outcome.retrieve);
  field("loading", outcome.loading);
  field("answer", outcome.answer);
  field("reference", outcome.reference);
  field("score", outcome.score, kShare);
  field("published", outcome.published, kShare);
  field("error", outcome.error);
  field("prompt_tokens", outcome.prompt_tokens);
  field("cached_tokens", outcome.cached_tokens);
  field("completion_tokens", outcome.completion_tokens);
  field("ttft_seconds", outcome.ttft_seconds);
  field("decode_seconds", outcome.decode_seconds);
  field("computed_fraction", outcome.computed_fraction);
  field("kv_bytes", outcome.kv_bytes);
}

class Writer {
 public:
  template <class T>
  void operator()(const char* name, const T& value, Range range = {}) {
    if constexpr (std::floating_point<T>)
      if (!(value >= range.low && value <= range.high))
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("expected a number from {:g} to {:g}, found {}", range.low,
                                range.high, value),
                    name);
    if constexpr (std::same_as<T, Mode>)
      json[name] = mode_name(value);
    else
      json[name] = value;
  }
  nlohmann::ordered_json json;
};

class Reader {
 public:
  Reader(const nlohmann::json& object, const std::string& origin)
      : object_(object), reader_(object, origin) {}

  template <class T>
  void operator()(const char* name, T& value, Range range = {}) {
    known_.emplace_back(name);
    if (!object_.contains(name)) reader_.fail(name, "a field", "none");
    if constexpr (std::floating_point<T>) {
      value = reader_.number(name, range.low, range.high, std::nullopt);
    } else if constexpr (std::integral<T>) {
      value = reader_.integer(name, 0, int64_t{1} << 53, std::nullopt);
    } else {
      if (object_[name].is_null()) reader_.fail(name, "text", "null");
      if constexpr (std::same_as<T, Mode>)
        value = mode_of(reader_.text(name, {}));
      else
        value = reader_.text(name, {});
    }
  }

  void refuse_unknown() const {
    const std::set<std::string> known(known_.begin(), known_.end());
    for (const auto& [name, value] : object_.items())
      if (!known.contains(name))
        throw Error(ErrorCode::kMalformed,
                    fmt::format("unknown field '{}'{}", name, did_you_mean(name, known_)),
                    reader_.origin());
  }

 private:
  Mode mode_of(const std::string& name) const {
    for (const Mode mode : {Mode::kMultiTurn, Mode::kMultiRequest})
      if (name == mode_name(mode)) return mode;
    reader_.fail("mode", fmt::format("{} or {}", kModeNames[0], kModeNames[1]), name);
  }

  const nlohmann::json& object_;
  formats::ConfigReader reader_;
  std::vector<std::string> known_;
};

}  // namespace

const char* mode_name(Mode mode) { return kModeNames[static_cast<size_t>(mode)]; }

std::string to_json_line(const Outcome& outcome) {
  Writer writer;
  visit(outcome, writer);
  // Answers are the model's: what is no UTF-8 becomes U+FFFD.
  return writer.json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<Outcome> outcome_from_json(const std::string& line) {
  return formats::read_json<Outcome>(
      line, "outcome", "a JSON object", [](const nlohmann::json& json, const std::string& origin) {
        if (!json.is_object())
          throw Error(ErrorCode::kMalformed,
                      fmt::format("expected a JSON object, found a JSON {}", json.type_name()),
                      origin);
        Outcome outcome;
        Reader reader(json, origin);
        visit(outcome, reader);
        reader.refuse_unknown();
        if (outcome.depth < 0 && outcome.depth != -1)
          formats::ConfigReader(json, origin)
              .fail("depth", "-1 or a number from 0 to 1", json["depth"].dump());
        return outcome;
      });
}

std::string question_id(const Outcome& outcome) {
  return nlohmann::json{outcome.suite, outcome.task,  outcome.length,         outcome.session,
                        outcome.turn,  outcome.depth, mode_name(outcome.mode)}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string method_id(const Outcome& outcome) {
  return nlohmann::json{outcome.prefill, outcome.compress, outcome.retrieve, outcome.loading}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace kvasir::eval

#include "cli/options.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/suggest.h"

namespace kvasir::cli {
namespace {

[[noreturn]] void refuse(std::string_view what, std::string message) {
  throw Error(ErrorCode::kInvalidArgument, std::move(message), std::string(what));
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

SamplingOptions GenerationOptions::sampling(SamplingOptions defaults) const {
  defaults.temperature = temperature.value_or(defaults.temperature);
  defaults.top_k = top_k.value_or(defaults.top_k);
  defaults.top_p = top_p.value_or(defaults.top_p);
  defaults.min_p = min_p.value_or(defaults.min_p);
  defaults.repetition_penalty = repetition_penalty.value_or(defaults.repetition_penalty);
  defaults.presence_penalty = presence_penalty.value_or(defaults.presence_penalty);
  defaults.frequency_penalty = frequency_penalty.value_or(defaults.frequency_penalty);
  defaults.seed = seed.value_or(defaults.seed);
  return defaults;
}

Request GenerationOptions::request(std::vector<TokenId> prompt,
                                   const SamplingOptions& defaults) const {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling = sampling(defaults);
  request.max_tokens = max_tokens;
  request.samples = samples;
  request.stop = stop;
  request.stop_tokens = stop_tokens;
  request.ignore_end_tokens = ignore_end;
  request.top_logprobs = logprobs;
  request.stages = stages;
  return request;
}

MethodChoice parse_method(std::string_view text, std::string_view what) {
  const size_t colon = text.find(':');
  MethodChoice choice{std::string(text.substr(0, colon)), {}};
  if (choice.name.empty())
    refuse(what, fmt::format("expected NAME or NAME:key=value,..., found '{}'", text));
  if (colon == std::string_view::npos) return choice;
  for (const std::string_view pair : split(text.substr(colon + 1), ',')) {
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos || equals == 0)
      refuse(what, fmt::format("expected key=value after '{}:', found '{}'", choice.name, pair));
    const std::string key(pair.substr(0, equals));
    if (!choice.options.emplace(key, std::string(pair.substr(equals + 1))).second)
      refuse(what, fmt::format("'{}' is given twice in '{}'", key, text));
  }
  return choice;
}

StageChoice parse_stages(std::string_view text, std::string_view what) {
  static const std::vector<std::string> kStages{"prefill", "compress", "retrieve"};
  StageChoice stages;
  for (const std::string_view part : split(text, ';')) {
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos)
      refuse(what, fmt::format("expected stage=NAME[:key=value,...], found '{}'", part));
    const std::string stage = choose(what, part.substr(0, equals), kStages);
    MethodChoice method = parse_method(part.substr(equals + 1), what);
    (stage == "prefill"    ? stages.prefill
     : stage == "compress" ? stages.compress
                           : stages.retrieve) = std::move(method);
  }
  return stages;
}

int64_t parse_integer(std::string_view text, std::string_view what, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status == std::errc::result_out_of_range)
    refuse(what, fmt::format("expected a whole number in range, found '{}'", text));
  if (status != std::errc{} || end != text.data() + text.size())
    refuse(what, fmt::format("expected a whole number, found '{}'", text));
  if (value >= least && value <= most) return value;
  if (most == INT64_MAX || (most == INT32_MAX && value < least))
    refuse(what, fmt::format("expected a whole number of at least {}, found {}", least, value));
  refuse(what, fmt::format("expected a whole number from {} to {}, found {}", least, most, value));
}

double parse_number(std::string_view text, std::string_view what) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    refuse(what, fmt::format("expected a number, found '{}'", text));
  return value;
}

}  // namespace kvasir::cli

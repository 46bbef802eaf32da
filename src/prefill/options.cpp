#include "prefill/options.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string>

namespace kvasir::prefill {
namespace {

constexpr int32_t kMostTokens = 1 << 30;  // sums of two stay in range

std::optional<int32_t> number(std::string_view text) {
  int32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

Result<void> check_whole(std::string_view value, int32_t least) {
  const std::optional<int32_t> found = number(value);
  if (found && *found >= least && *found <= kMostTokens) return {};
  return Error(ErrorCode::kInvalidArgument,
               "expected a whole number of tokens from " + std::to_string(least) + " to " +
                   std::to_string(kMostTokens) + ", found \"" + std::string(value) + "\"");
}

std::optional<double> decimal(std::string_view text) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Nothing where the text is no list of layers.
std::optional<std::vector<LayerRun>> layer_runs(std::string_view text) {
  std::vector<LayerRun> runs;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('+', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    const size_t dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *last < *first || (!runs.empty() && *first <= runs.back().last))
      return std::nullopt;
    runs.push_back({*first, *last});
    begin = end + 1;
  }
  return runs;
}

}  // namespace

Result<void> check_tokens(std::string_view value) { return check_whole(value, 0); }
Result<void> check_at_least_one_token(std::string_view value) { return check_whole(value, 1); }

Result<void> check_number(std::string_view value, double most) {
  const std::optional<double> found = decimal(value);
  if (found && *found > 0 && *found <= most) return {};
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("expected a number above 0 and at most {}, found \"{}\"", most, value));
}

Result<void> check_share(std::string_view value) { return check_number(value, 1); }

Result<void> check_distance(std::string_view value) {
  if (const std::optional<double> found = decimal(value); found && *found >= 0 && *found <= 1)
    return {};
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("expected a number from 0 to 1, found \"{}\"", value));
}

Result<void> check_bound(std::string_view value) { return check_number(value, 100); }

Result<void> check_file(std::string_view value) {
  if (!value.empty()) return {};
  return Error(ErrorCode::kInvalidArgument, "expected the path of a file");
}

Result<void> check_layers(std::string_view value) {
  if (layer_runs(value)) return {};
  return Error(
      ErrorCode::kInvalidArgument,
      "expected ascending layers such as 12-31 or 5+7+15-35, found \"" + std::string(value) + "\"");
}

double number_option(const MethodChoice& choice, std::string_view name, double otherwise) {
  const auto option = choice.options.find(std::string(name));
  return option == choice.options.end() ? otherwise : decimal(option->second).value();
}

int32_t tokens_option(const MethodChoice& choice, std::string_view name, int32_t otherwise) {
  const auto option = choice.options.find(std::string(name));
  return option == choice.options.end() ? otherwise : number(option->second).value();
}

std::vector<LayerRun> layers_option(const MethodChoice& choice, std::string_view name) {
  const auto option = choice.options.find(std::string(name));
  if (option == choice.options.end()) return {};
  return layer_runs(option->second).value();
}

}  // namespace kvasir::prefill

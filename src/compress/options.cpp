#include "compress/options.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string>

#include "kernels/vertical_slash/vertical_slash.h"

namespace kvasir::compress {
namespace {

constexpr int64_t kMost = 1 << 30;

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<void> check_whole(std::string_view value, int64_t most, bool is_odd) {
  const std::optional<int64_t> found = number(value);
  if (found && *found >= 1 && *found <= most && (!is_odd || *found % 2 == 1)) return {};
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("expected {} number from 1 to {}, found \"{}\"",
                           is_odd ? "an odd" : "a whole", most, value));
}

}  // namespace

Result<void> check_count(std::string_view value) { return check_whole(value, kMost, false); }
Result<void> check_window(std::string_view value) {
  return check_whole(value, kernels::kEstimateQueries, false);
}
Result<void> check_kernel(std::string_view value) { return check_whole(value, 63, true); }
Result<void> check_appended(std::string_view value) {
  if (value == "ranked" || value == "kept") return {};
  return Error(ErrorCode::kInvalidArgument,
               fmt::format("expected ranked or kept, found \"{}\"", value));
}

int64_t whole_option(const MethodChoice& choice, std::string_view name, int64_t otherwise) {
  const auto option = choice.options.find(std::string(name));
  return option == choice.options.end() ? otherwise : number(option->second).value();
}

bool is_rolling(const MethodChoice& choice) {
  const auto option = choice.options.find("appended");
  return option == choice.options.end() || option->second == "ranked";
}

}  // namespace kvasir::compress

#include "eval/outcome_file.h"

#include <fmt/format.h>

#include <unordered_map>

#include "base/file.h"

namespace kvasir::eval {

Result<OutcomeFile> parse_outcomes(std::string_view text, std::string_view origin) {
  OutcomeFile file;
  std::unordered_map<std::string, int64_t> lines;  // of each question and methods
  int64_t number = 0;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n', begin)) {
    ++number;
    const auto malformed = [&](const std::string& message) {
      return Error(ErrorCode::kMalformed, message, fmt::format("{}, line {}", origin, number));
    };
    Result<Outcome> outcome = outcome_from_json(std::string(text.substr(begin, end - begin)));
    if (!outcome) return malformed(outcome.error().message());
    const auto [earlier, is_new] =
        lines.emplace(question_id(outcome.value()) + method_id(outcome.value()), number);
    if (!is_new)
      return malformed(
          fmt::format("expected each question once for the same methods, found that of line {} "
                      "again",
                      earlier->second));
    file.outcomes.push_back(std::move(outcome).value());
    begin = end + 1;
  }
  file.whole_bytes = static_cast<int64_t>(begin);
  if (begin < text.size())
    file.notice = fmt::format("{}: dropped line {}, which breaks off after {} bytes", origin,
                              number + 1, text.size() - begin);
  return file;
}

Result<OutcomeFile> read_outcomes(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::path file =
      std::filesystem::is_directory(path, ignored) ? path / kOutcomesFile : path;
  const Result<std::string> text = read_file(file);
  if (!text) return text.error();
  return parse_outcomes(text.value(), file.string());
}

}  // namespace kvasir::eval

#include "cli/ids.h"

#include <fmt/format.h>

#include <charconv>

namespace kvasir::cli {

std::vector<TokenId> parse_ids(std::string_view text, const std::string& where) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  std::vector<TokenId> ids;
  int64_t line = 1;
  for (size_t i = 0; i < text.size();) {
    if (kSpace.find(text[i]) != std::string_view::npos) {
      line += text[i] == '\n';
      ++i;
      continue;
    }
    const size_t end = std::min(text.find_first_of(kSpace, i), text.size());
    TokenId id = 0;
    const auto [stop, status] = std::from_chars(text.data() + i, text.data() + end, id);
    if (status != std::errc{} || stop != text.data() + end || id < 0)
      throw Error(ErrorCode::kMalformed,
                  fmt::format("line {}: expected a token id, found '{}'", line,
                              text.substr(i, std::min<size_t>(end - i, 40))),
                  where);
    ids.push_back(id);
    i = end;
  }
  if (ids.empty())
    throw Error(ErrorCode::kMalformed, "expected token ids apart by white space, found none",
                where);
  return ids;
}

void check_ids(std::span<const TokenId> ids, int64_t vocab_size, const std::string& where) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= vocab_size)
      throw Error(ErrorCode::kMalformed,
                  fmt::format("id {} of {}: expected a token id below {}, found {}", i + 1,
                              ids.size(), vocab_size, ids[i]),
                  where);
}

}  // namespace kvasir::cli

#include "tasks/score_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/unicode.h"

namespace kvasir::tasks {
namespace {

template <class Map>
std::string mapped(std::string_view text, Map&& map) {
  std::string out;
  for (const std::string& each : characters(text)) {
    size_t at = 0;
    if (!text::is_valid_utf8(each)) {
      out += each;
      continue;
    }
    const auto code = static_cast<utf8proc_int32_t>(text::next_code_point(each, at));
    text::append_utf8(static_cast<char32_t>(map(code)), out);
  }
  return out;
}

}  // namespace

std::string lower_text(std::string_view text) { return mapped(text, utf8proc_tolower); }
std::string upper_text(std::string_view text) { return mapped(text, utf8proc_toupper); }

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> all;
  for (size_t i = 0; i < text.size();) {
    const size_t size =
        std::min<size_t>(static_cast<size_t>(text::utf8_size(text[i])), text.size() - i);
    std::string_view each = text.substr(i, size);
    if (!text::is_valid_utf8(each)) each = text.substr(i, 1);
    all.emplace_back(each);
    i += each.size();
  }
  return all;
}

bool is_blank(std::string_view character) {
  if (!text::is_valid_utf8(character) || character.empty()) return false;
  size_t at = 0;
  const char32_t code = text::next_code_point(character, at);
  return text::is_whitespace(code) || (code >= 0x1C && code <= 0x1F);  // Python counts separators
}

std::string_view trim(std::string_view text) {
  size_t first = 0, last = 0, at = 0;
  bool is_started = false;
  for (const std::string& each : characters(text)) {
    if (!is_blank(each)) {
      if (!is_started) first = at;
      is_started = true;
      last = at + each.size();
    }
    at += each.size();
  }
  return is_started ? text.substr(first, last - first) : std::string_view{};
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool is_inside = false;
  for (const std::string& each : characters(text)) {
    const bool blank = is_blank(each);
    if (!blank && !is_inside) words.emplace_back();
    if (!blank) words.back() += each;
    is_inside = !blank;
  }
  return words;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (;;) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

}  // namespace kvasir::tasks

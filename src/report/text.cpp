#include "report/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "base/utf8.h"

namespace kvasir::report {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Calls take(character) for each character as bytes of valid UTF-8; bytes that are none one by one,
// as U+FFFD.
template <class Take>
void for_each_character(std::string_view text, Take take) {
  while (!text.empty()) {
    const size_t good = invalid_utf8_at(text).value_or(text.size());
    for (size_t at = 0; at < good;) {
      size_t next = at + 1;
      while (next < good && (static_cast<unsigned char>(text[next]) & 0xc0) == 0x80) ++next;
      take(text.substr(at, next - at));
      at = next;
    }
    if (good == text.size()) return;
    take(kReplacement);
    text.remove_prefix(good + 1);
  }
}

// In widths of the font's size.
double character_width(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  // U+1100 and up: Hangul, CJK, emoji. Their letters are square.
  if (lead >= 0xe0)
    return lead > 0xe2 || (lead == 0xe1 && static_cast<unsigned char>(character[1]) < 0x88) ? 1.0
                                                                                            : 0.7;
  if (lead >= 0x80) return 0.65;
  const char letter = character[0];
  if (std::string_view("ijl.,:;'|!() ").find(letter) != std::string_view::npos) return 0.34;
  if (std::string_view("mwMW@%").find(letter) != std::string_view::npos) return 0.95;
  if (letter >= 'A' && letter <= 'Z') return 0.69;
  return 0.6;
}

std::string trimmed_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text == "-0" ? "0" : text;
}

// Digits behind the point that tell multiples of `step` apart.
int decimals_of(double step) {
  if (!(step > 0)) return 3;
  for (int decimals = 0; decimals < 12; ++decimals) {
    const double scaled = step * std::pow(10, decimals);
    if (std::abs(scaled - std::round(scaled)) < 1e-6 * scaled) return decimals;
  }
  return 12;
}

std::string plain_text(double value, double step) {
  const double size = std::abs(value);
  const bool is_tiny = size < 1e-4 && step < 1e-4;
  if (size >= 1e9 || (is_tiny && size != 0)) {
    const std::string text = fmt::format("{:.2e}", value);
    const size_t at = text.find('e');
    return trimmed_zeros(text.substr(0, at)) + text.substr(at);
  }
  const std::string text = fmt::format("{:.{}f}", value, decimals_of(step));
  const size_t point = text.find('.');
  const auto whole = static_cast<int64_t>(value);
  if (std::abs(whole) < 1000 && text != "-0") return text;
  return (text == "-0" ? "0" : with_thousands(whole)) +
         (point == std::string::npos ? "" : text.substr(point));
}

std::string tokens_text(double value, double step) {
  constexpr double kKibi = 1024, kMebi = 1024 * 1024;
  for (const auto& [unit, letter] : {std::pair{kMebi, 'M'}, {kKibi, 'K'}})
    if (value >= unit && std::fmod(value, unit / 4) == 0)
      return trimmed_zeros(fmt::format("{:.2f}", value / unit)) + letter;
  return plain_text(value, step);
}

}  // namespace

std::string escape_xml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for_each_character(text, [&escaped](std::string_view character) {
    const char letter = character[0];
    switch (letter) {
      case '&':
        escaped += "&amp;";
        return;
      case '<':
        escaped += "&lt;";
        return;
      case '>':
        escaped += "&gt;";
        return;
      case '"':
        escaped += "&quot;";
        return;
      case '\'':
        escaped += "&#39;";
        return;
      default:
        break;
    }
    const auto byte = static_cast<unsigned char>(letter);
    const bool is_control = (byte < 0x20 && letter != '\t' && letter != '\n') || byte == 0x7f;
    // U+FFFE and U+FFFF are no characters either.
    const bool is_none = character == "\xef\xbf\xbe" || character == "\xef\xbf\xbf";
    escaped += is_control || is_none ? kReplacement : character;
  });
  return escaped;
}

double text_width(std::string_view text, double size) {
  double width = 0;
  for_each_character(text, [&width](std::string_view c) { width += character_width(c); });
  return width * size;
}

std::string shortened(std::string_view text, double size, double width) {
  if (text_width(text, size) <= width) return std::string(text);
  double used = size;  // the ellipsis
  std::string kept;
  bool is_full = false;
  for_each_character(text, [&](std::string_view character) {
    used += size * character_width(character);
    is_full = is_full || used > width;
    if (!is_full) kept += character;
  });
  kept.erase(kept.find_last_not_of(' ') + 1);
  return kept + "…";
}

std::vector<std::string> wrapped(std::string_view text, double size, double width) {
  std::vector<std::string> lines;
  std::string line;
  size_t last_space = std::string::npos;  // in `line`
  double used = 0;
  for_each_character(text, [&](std::string_view character) {
    const bool is_space = character == " " || character == "\n" || character == "\t";
    if (is_space && line.empty()) return;
    used += size * character_width(is_space ? " " : character);
    if (used > width && !line.empty() && !is_space) {
      const std::string rest =
          last_space == std::string::npos ? std::string() : line.substr(last_space + 1);
      lines.push_back(line.substr(0, last_space));
      line = rest + std::string(character);
      used = text_width(line, size);
      last_space = std::string::npos;
      return;
    }
    if (is_space) last_space = line.size();
    line += is_space ? " " : character;
  });
  line.erase(line.find_last_not_of(' ') + 1);
  if (!line.empty() || lines.empty()) lines.push_back(line);
  return lines;
}

std::string number_text(double value, double step, NumberStyle style) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "∞" : "-∞";
  switch (style) {
    case NumberStyle::kPercent:
      return plain_text(100 * value, 100 * step) + "%";
    case NumberStyle::kTokens:
      return tokens_text(value, step);
    case NumberStyle::kPlain:
    case NumberStyle::kWhole:
      break;
  }
  return plain_text(value, step);
}

std::string share_text(double share) {
  if (!std::isfinite(share)) return "–";
  const double percent = 100 * share;
  const bool is_near_one = percent >= 90 && percent < 99.95;
  const int decimals = is_near_one ? 1 : percent >= 9.95 ? 0 : percent >= 0.995 ? 1 : 2;
  return percent == 0 ? "0%" : fmt::format("{:.{}f}%", percent, decimals);
}

}  // namespace kvasir::report

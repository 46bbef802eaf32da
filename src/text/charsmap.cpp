#include "text/charsmap.h"

#include <algorithm>

#include "text/unicode.h"

namespace kvasir::text {

namespace {

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

std::string decode_base64(const JsonNode& node) {
  std::string_view text = node.as_string();
  if (text.size() % 4 != 0) node.malformed("base64 of whole groups of four");
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int digit = base64_digit(c);
    if (digit < 0) node.malformed("base64 with the digits A-Z a-z 0-9 + /");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return out;
}

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

// A unit of Darts-clone: bit 8 says that a value follows, bits 10-30 (shifted once more where bit 9
// is set) lead to the children, bits 0-7 and 31 are the label; a value has bit 31 set.
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }
uint32_t label_of(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }

}  // namespace

Charsmap Charsmap::parse(const JsonNode& node) {
  const std::string bytes = decode_base64(node);
  const size_t trie_bytes = bytes.size() < 4 ? 0 : little_endian(bytes, 0) / 4 * 4;
  if (trie_bytes < 4 || trie_bytes > bytes.size() - 4) {
    node.malformed("a trie's size, the trie and its replacements");
  }
  Charsmap map;
  for (size_t at = 4; at < 4 + trie_bytes; at += 4) map.units_.push_back(little_endian(bytes, at));
  map.replacements_ = bytes.substr(4 + trie_bytes);
  if (!is_valid_utf8(map.replacements_)) node.malformed("replacements in UTF-8");
  for (size_t c = 0; c < map.kept_.size(); ++c) {
    const char character = static_cast<char>(c);
    map.kept_[c] = character != '\r' && !map.find({&character, 1});
  }
  return map;
}

std::optional<std::string_view> Charsmap::find(std::string_view text) const {
  size_t node = offset_of(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label_of(units_[node]) != byte) return std::nullopt;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= units_.size()) return std::nullopt;
    const size_t begin = units_[node] & ~(1u << 31);
    if (begin > replacements_.size()) return std::nullopt;
    const std::string_view rest = std::string_view(replacements_).substr(begin);
    if (!rest.empty() && is_utf8_continuation(rest[0])) return std::nullopt;
    return rest.substr(0, rest.find('\0'));
  }
  return std::nullopt;
}

}  // namespace kvasir::text

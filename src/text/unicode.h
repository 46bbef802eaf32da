#pragma once
// UTF-8 and the few Unicode properties that tokenizers ask for. Property data: utf8proc.

#include <cstdint>
#include <string>
#include <string_view>

namespace kvasir::text {

// Bytes of the character whose first byte is `lead`; 1 for anything that cannot lead.
inline int utf8_size(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0xC0) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

inline bool is_utf8_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// The character at `at` in valid UTF-8, and `at` moved behind it. Precondition: at < text.size().
inline char32_t next_code_point(std::string_view text, size_t& at) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + at;
  if (p[0] < 0x80) {
    at += 1;
    return p[0];
  }
  if (p[0] < 0xE0) {
    at += 2;
    return static_cast<char32_t>((p[0] & 0x1F) << 6 | (p[1] & 0x3F));
  }
  if (p[0] < 0xF0) {
    at += 3;
    return static_cast<char32_t>((p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F));
  }
  at += 4;
  return static_cast<char32_t>((p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 |
                               (p[3] & 0x3F));
}

// The character that ends just before `at` in valid UTF-8, and `at` moved to its first byte.
// Precondition: at > 0.
char32_t previous_code_point(std::string_view text, size_t& at);

void append_utf8(char32_t code_point, std::string& out);

bool is_ascii(std::string_view text);
bool is_valid_utf8(std::string_view text);

// `text` with each maximal invalid part replaced by U+FFFD, as Python's decode("utf-8", "replace").
std::string to_valid_utf8(std::string_view text);

// How many trailing bytes of `text` are the beginning of a character that later bytes may complete.
size_t incomplete_utf8_tail(std::string_view text);

bool is_whitespace(char32_t code_point);  // property White_Space
bool is_numeric(char32_t code_point);     // categories Nd, Nl, No
bool is_word(char32_t code_point);        // \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control

// The end of the grapheme cluster (extended, UAX 29) that begins at `begin` < text.size().
size_t grapheme_end(std::string_view text, size_t begin);

// Appends the lower-case form (U+0130 becomes two characters).
void append_lowercase(char32_t code_point, std::string& out);

enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` (valid UTF-8) in the given form.
std::string normalize_unicode(std::string_view text, NormalizationForm form);

// The printable character that stands for a byte in byte-level vocabularies (Radford et al. 2019).
char32_t byte_to_char(uint8_t byte);
// The byte that such a character stands for, or -1.
int char_to_byte(char32_t code_point);

}  // namespace kvasir::text

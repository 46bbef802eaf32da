#include "text/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kvasir/error.h"

namespace kvasir::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The length of the valid character at the start of `text`, or 0 with `bad` set to the length of
// the maximal part that could have begun one (at least 1): Unicode 15, table 3-7.
size_t valid_character(std::string_view text, size_t& bad) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  bad = 1;
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
  const size_t size = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
  unsigned low = 0x80, high = 0xBF;
  if (p[0] == 0xE0) low = 0xA0;
  if (p[0] == 0xED) high = 0x9F;
  if (p[0] == 0xF0) low = 0x90;
  if (p[0] == 0xF4) high = 0x8F;
  for (size_t i = 1; i < size; ++i) {
    if (i >= text.size() || p[i] < low || p[i] > high) {
      bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return size;
}

// The position of the first byte that is not part of a valid character; text.size() if none.
size_t first_invalid(std::string_view text) {
  size_t at = 0, bad = 0;
  while (at < text.size()) {
    uint64_t word = 0;
    if (at + 8 <= text.size()) {
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080ull) == 0) {
        at += 8;
        continue;
      }
    }
    const size_t size = valid_character(text.substr(at), bad);
    if (size == 0) return at;
    at += size;
  }
  return at;
}

bool category_is(char32_t code_point, unsigned mask) {
  return (mask >> utf8proc_category(static_cast<utf8proc_int32_t>(code_point)) & 1u) != 0;
}

constexpr unsigned bit(int category) { return 1u << category; }

// Normalises one run and appends it. utf8proc allocates its result with malloc.
void append_normalized(std::string_view text, NormalizationForm form, std::string& out) {
  int options = UTF8PROC_STABLE;
  const bool composed = form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
  options |= composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd) {
    options |= UTF8PROC_COMPAT;
  }
  utf8proc_uint8_t* result = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &result,
                                 static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (size < 0) {
    throw Error(ErrorCode::kInternal, std::string("utf8proc: ") + utf8proc_errmsg(size),
                "Unicode normalisation");
  }
  out.append(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
}

struct ByteAlphabet {
  std::array<char32_t, 256> to_char;
  std::array<int16_t, 0x144> to_byte;

  ByteAlphabet() {
    to_byte.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      to_char[byte] = printable ? byte : next++;
      to_byte[to_char[byte]] = static_cast<int16_t>(byte);
    }
  }
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

}  // namespace

char32_t previous_code_point(std::string_view text, size_t& at) {
  do {
    --at;
  } while (at > 0 && is_utf8_continuation(text[at]));
  size_t end = at;
  return next_code_point(text, end);
}

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  char bytes[4];
  int size = 0;
  if (c < 0x800) {
    bytes[size++] = static_cast<char>(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      bytes[size++] = static_cast<char>(0xE0 | c >> 12);
    } else {
      bytes[size++] = static_cast<char>(0xF0 | c >> 18);
      bytes[size++] = static_cast<char>(0x80 | (c >> 12 & 0x3F));
    }
    bytes[size++] = static_cast<char>(0x80 | (c >> 6 & 0x3F));
  }
  bytes[size++] = static_cast<char>(0x80 | (c & 0x3F));
  out.append(bytes, static_cast<size_t>(size));
}

bool is_ascii(std::string_view text) {
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080ull) != 0) return false;
  }
  for (; at < text.size(); ++at) {
    if (static_cast<unsigned char>(text[at]) >= 0x80) return false;
  }
  return true;
}

bool is_valid_utf8(std::string_view text) { return first_invalid(text) == text.size(); }

std::string to_valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  while (!text.empty()) {
    const size_t good = first_invalid(text);
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) break;
    size_t bad = 0;
    valid_character(text, bad);
    out.append(kReplacement);
    text.remove_prefix(bad);
  }
  return out;
}

size_t incomplete_utf8_tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    if (is_utf8_continuation(tail[0])) continue;
    size_t bad = 0;
    return valid_character(tail, bad) == 0 && bad == back &&
                   static_cast<size_t>(utf8_size(tail[0])) > back &&
                   static_cast<unsigned char>(tail[0]) >= 0xC2 &&
                   static_cast<unsigned char>(tail[0]) <= 0xF4
               ? back
               : 0;
  }
  return 0;
}

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  constexpr unsigned kMask =
      bit(UTF8PROC_CATEGORY_ND) | bit(UTF8PROC_CATEGORY_NL) | bit(UTF8PROC_CATEGORY_NO);
  return category_is(c, kMask);
}

bool is_word(char32_t c) {
  constexpr unsigned kMask =
      bit(UTF8PROC_CATEGORY_LU) | bit(UTF8PROC_CATEGORY_LL) | bit(UTF8PROC_CATEGORY_LT) |
      bit(UTF8PROC_CATEGORY_LM) | bit(UTF8PROC_CATEGORY_LO) | bit(UTF8PROC_CATEGORY_MN) |
      bit(UTF8PROC_CATEGORY_MC) | bit(UTF8PROC_CATEGORY_ME) | bit(UTF8PROC_CATEGORY_ND) |
      bit(UTF8PROC_CATEGORY_NL) | bit(UTF8PROC_CATEGORY_PC);
  if (category_is(c, kMask) || c == 0x200C || c == 0x200D) return true;
  // Other_Alphabetic among the symbols: circled, squared and negative letters.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

size_t grapheme_end(std::string_view text, size_t begin) {
  size_t end = begin;
  utf8proc_int32_t state = 0;
  auto previous = static_cast<utf8proc_int32_t>(next_code_point(text, end));
  while (end < text.size()) {
    size_t next = end;
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, next));
    if (utf8proc_grapheme_break_stateful(previous, c, &state)) break;
    previous = c;
    end = next;
  }
  return end;
}

void append_lowercase(char32_t c, std::string& out) {
  if (c == 0x130) {
    out.append("i\xCC\x87");
    return;
  }
  if (c < 0x80) return out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  append_utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

std::string normalize_unicode(std::string_view text, NormalizationForm form) {
  // ASCII characters are their own normal form and never combine with what stands before them, so
  // only runs of other characters, each with the one ASCII character before it, need the library.
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  size_t copied = 0, at = 0;
  while (at < text.size()) {
    uint64_t word;
    if (at + 8 <= text.size()) {
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080ull) == 0) {
        at += 8;
        continue;
      }
    }
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && static_cast<unsigned char>(text[end]) >= 0x80) ++end;
    const size_t begin = at > copied ? at - 1 : at;
    out.append(text.substr(copied, begin - copied));
    append_normalized(text.substr(begin, end - begin), form, out);
    copied = at = end;
  }
  out.append(text.substr(copied));
  return out;
}

char32_t byte_to_char(uint8_t byte) { return byte_alphabet().to_char[byte]; }

int char_to_byte(char32_t c) {
  const auto& table = byte_alphabet().to_byte;
  return c < table.size() ? table[c] : -1;
}

}  // namespace kvasir::text

#include "text/jinja_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

constexpr std::array<std::string_view, 26> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

bool is_decimal(char c) { return c >= '0' && c <= '9'; }

bool is_digit_of(char c, int base) {
  const int lower = c | 0x20;
  if (base == 16 && lower >= 'a' && lower <= 'f') return true;
  return c >= '0' && c < '0' + std::min(base, 10);
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_data();
    add(TokenType::kEnd, source_.size());
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string message, size_t offset) const {
    throw SyntaxFailure{std::move(message), offset};
  }

  Token& add(TokenType type, size_t offset, std::string text = {}) {
    tokens_.push_back(Token{.type = type, .text = std::move(text), .offset = offset});
    return tokens_.back();
  }

  bool starts_with(std::string_view text) const { return source_.substr(at_, text.size()) == text; }

  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!is_space(next_char(source_, &next))) break;
      at = next;
    }
    return at;
  }

  // Moves to `end`; a line starts there if the text passed ends one.
  void move_to(size_t end) {
    line_starting_ = end > 0 && end > at_ ? source_[end - 1] == '\n' : false;
    at_ = end;
  }

  // Text up to the next opening mark, then what the mark opens.
  void read_data() {
    size_t mark = at_;
    while (true) {
      mark = source_.find('{', mark);
      if (mark == std::string_view::npos || mark + 1 >= source_.size()) {
        add_data(source_.substr(at_), at_);
        at_ = source_.size();
        return;
      }
      const char kind = source_[mark + 1];
      if (kind == '{' || kind == '%' || kind == '#') break;
      ++mark;
    }
    const char kind = source_[mark + 1];
    size_t inside = mark + 2;
    char sign = 0;
    if (inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+'))
      sign = source_[inside++];
    std::string_view text = source_.substr(at_, mark - at_);
    add_data(strip_before(text, sign, kind == '{'), at_);
    if (kind == '%') {
      if (const auto raw_end = find_raw_begin(inside)) {
        move_to(*raw_end);
        read_raw(mark);
        return;
      }
    }
    move_to(inside);
    if (kind == '#')
      read_comment(mark);
    else
      read_code(mark, kind == '{');
  }

  void add_data(std::string_view text, size_t offset) {
    if (!text.empty()) add(TokenType::kData, offset, std::string(text));
  }

  std::string_view strip_before(std::string_view text, char sign, bool is_print) const {
    if (sign == '-') return strip(text, Side::kRight);
    if (sign == '+' || is_print) return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_starting_) return text;
    if (!strip(text.substr(line), Side::kBoth).empty()) return text;
    return text.substr(0, line);
  }

  std::optional<size_t> find_raw_begin(size_t at) const {
    at = skip_space(at);
    if (source_.substr(at, 3) != "raw") return std::nullopt;
    at = skip_space(at + 3);
    if (source_.substr(at, 3) == "-%}") return skip_space(at + 3);
    if (source_.substr(at, 2) == "%}") return at + 2;
    return std::nullopt;
  }

  // Where a closing mark at `at` ends: `+%}` keeps what follows, `-%}` eats white space, `%}` one
  // newline. nullopt where there is none.
  std::optional<size_t> match_end(size_t at, std::string_view mark) const {
    const char sign = at < source_.size() ? source_[at] : 0;
    const bool is_signed = sign == '+' || sign == '-';
    if (source_.substr(at + (is_signed ? 1 : 0), mark.size()) != mark) return std::nullopt;
    const size_t end = at + (is_signed ? 1 : 0) + mark.size();
    if (sign == '-') return skip_space(end);
    if (sign == '+') return end;
    return end < source_.size() && source_[end] == '\n' ? end + 1 : end;
  }

  void read_raw(size_t opened) {
    const size_t start = at_;
    for (size_t mark = source_.find("{%", at_); mark != std::string_view::npos;
         mark = source_.find("{%", mark + 1)) {
      size_t inside = mark + 2;
      char sign = 0;
      if (inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+'))
        sign = source_[inside++];
      inside = skip_space(inside);
      if (source_.substr(inside, 6) != "endraw") continue;
      const auto end = match_end(skip_space(inside + 6), "%}");
      if (!end) continue;
      add_data(strip_before(source_.substr(start, mark - start), sign, false), start);
      move_to(*end);
      return;
    }
    if (start < source_.size())
      fail("expected {% endraw %}, found the end of the template", opened);
  }

  void read_comment(size_t opened) {
    const size_t start = at_;
    size_t mark = source_.find("#}", at_);
    if (mark == std::string_view::npos) {
      if (start < source_.size())
        fail("expected #} after {#, found the end of the template", opened);
      return;
    }
    if (mark > start && (source_[mark - 1] == '-' || source_[mark - 1] == '+')) --mark;
    move_to(*match_end(mark, "#}"));
  }

  std::optional<size_t> match_code_end(bool is_print) const {
    if (!is_print) return match_end(at_, "%}");
    if (starts_with("-}}")) return skip_space(at_ + 3);
    if (starts_with("}}")) return at_ + 2;
    return std::nullopt;
  }

  void read_code(size_t opened, bool is_print) {
    add(is_print ? TokenType::kPrintBegin : TokenType::kTagBegin, opened);
    open_brackets_.clear();
    while (at_ < source_.size()) {
      if (open_brackets_.empty()) {
        if (const auto end = match_code_end(is_print)) {
          add(is_print ? TokenType::kPrintEnd : TokenType::kTagEnd, at_);
          move_to(*end);
          return;
        }
      }
      read_token();
    }
  }

  void read_token() {
    const size_t space_end = skip_space(at_);
    if (space_end > at_) {
      at_ = space_end;
      return;
    }
    const char c = source_[at_];
    if (is_decimal(c)) return read_number();
    if (c == '\'' || c == '"') return read_string(c);
    size_t end = at_;
    if (is_word(next_char(source_, &end))) return read_name();
    for (const std::string_view symbol : kOperators) {
      if (!starts_with(symbol)) continue;
      check_balance(symbol);
      add(TokenType::kOperator, at_, std::string(symbol));
      at_ += symbol.size();
      return;
    }
    fail(fmt::format("unexpected character {}", quote(source_.substr(at_, end - at_))), at_);
  }

  void check_balance(std::string_view symbol) {
    const char c = symbol[0];
    if (c == '(' || c == '[' || c == '{') {
      open_brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_brackets_.empty()) fail(fmt::format("unexpected '{}'", c), at_);
      if (open_brackets_.back() != c)
        fail(fmt::format("expected '{}', found '{}'", open_brackets_.back(), c), at_);
      open_brackets_.pop_back();
    }
  }

  void read_name() {
    const size_t start = at_;
    size_t end = at_;
    while (end < source_.size()) {
      size_t next = end;
      if (!is_word(next_char(source_, &next))) break;
      end = next;
    }
    add(TokenType::kName, start, std::string(source_.substr(start, end - start)));
    at_ = end;
  }

  // End of a run of digits with single underscores between them; `at` itself where there is none.
  size_t skip_digits(size_t at, int base = 10) const {
    if (at >= source_.size() || !is_digit_of(source_[at], base)) return at;
    ++at;
    while (at < source_.size()) {
      if (is_digit_of(source_[at], base))
        ++at;
      else if (source_[at] == '_' && at + 1 < source_.size() && is_digit_of(source_[at + 1], base))
        at += 2;
      else
        break;
    }
    return at;
  }

  char char_at(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }

  std::string digits_between(size_t start, size_t end) const {
    std::string digits(source_.substr(start, end - start));
    std::erase(digits, '_');
    return digits;
  }

  void read_number() {
    const size_t start = at_;
    size_t end = skip_digits(start);
    bool is_float = false;
    // "1.2.3" indexes: a number directly after a dot has no fraction.
    const bool after_dot = start > 0 && source_[start - 1] == '.';
    if (!after_dot) {
      if (char_at(end) == '.' && is_decimal(char_at(end + 1))) {
        end = skip_digits(end + 1);
        is_float = true;
      }
      if ((char_at(end) | 0x20) == 'e') {
        const size_t sign = char_at(end + 1) == '+' || char_at(end + 1) == '-' ? 1 : 0;
        const size_t exponent_end = skip_digits(end + 1 + sign);
        if (exponent_end > end + 1 + sign) {
          end = exponent_end;
          is_float = true;
        }
      }
    }
    if (is_float) {
      const std::string digits = digits_between(start, end);
      Token& token = add(TokenType::kFloat, start);
      const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), token.real);
      if (read.ec != std::errc()) token.real = std::strtod(digits.c_str(), nullptr);  // inf or 0
      at_ = end;
      return;
    }
    read_integer();
  }

  void read_integer() {
    const size_t start = at_;
    int base = 10;
    size_t digits_start = start, end = start;
    if (source_[start] == '0') {
      const int mark = char_at(start + 1) | 0x20;
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (base != 10) {
        digits_start = start + 2 + (char_at(start + 2) == '_' ? 1 : 0);
        end = skip_digits(digits_start, base);
        if (end == digits_start) base = 10;
      }
      if (base == 10) {  // zeros only: "012" is two tokens
        digits_start = start;
        end = start + 1;
        while (char_at(end) == '0' || (char_at(end) == '_' && char_at(end + 1) == '0')) ++end;
      }
    } else {
      end = skip_digits(start);
    }
    const std::string digits = digits_between(digits_start, end);
    Token& token = add(TokenType::kInteger, start);
    const auto read =
        std::from_chars(digits.data(), digits.data() + digits.size(), token.integer, base);
    if (read.ec != std::errc()) fail("this integer does not fit 64 signed bits", start);
    at_ = end;
  }

  void read_string(char mark) {
    const size_t start = at_;
    size_t end = start + 1;
    while (end < source_.size() && source_[end] != mark) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size())
      fail(
          fmt::format("expected {} at the end of this string, found the end of the template", mark),
          start);
    add(TokenType::kString, start, unescape(start + 1, end));
    at_ = end + 1;
  }

  std::string unescape(size_t at, size_t end) const {
    std::string out;
    while (at < end) {
      const size_t backslash = std::min(source_.find('\\', at), end);
      out += source_.substr(at, backslash - at);
      at = backslash;
      if (at < end) at = read_escape(at, &out);
    }
    return out;
  }

  // The escape that starts at `at`; gives where it ends.
  size_t read_escape(size_t at, std::string* out) const {
    const char c = source_[at + 1];
    constexpr std::string_view kNames = "\\'\"abfnrtv";
    constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    if (c == '\n') return at + 2;
    if (const size_t found = kNames.find(c); found != std::string_view::npos) {
      *out += kValues[found];
      return at + 2;
    }
    if (c >= '0' && c <= '7') {
      size_t end = at + 1;
      char32_t value = 0;
      for (; end < at + 4 && is_digit_of(char_at(end), 8); ++end)
        value = value * 8 + static_cast<char32_t>(source_[end] - '0');
      append_char(*out, value);
      return end;
    }
    if (c == 'x') return read_hex(at, 2, out);
    if (c == 'u') return read_hex(at, 4, out);
    if (c == 'U') return read_hex(at, 8, out);
    if (c == 'N') fail("character names (\\N{...}) are not offered; use \\u with the code", at);
    *out += '\\';
    if (static_cast<unsigned char>(c) < 0x80) {
      *out += c;
      return at + 2;
    }
    // Jinja writes characters beyond ASCII as escapes before it reads escapes, so that a backslash
    // before one leaves the text of that escape.
    size_t end = at + 1;
    const auto code = static_cast<uint32_t>(next_char(source_, &end));
    *out += code < 0x100     ? fmt::format("x{:02x}", code)
            : code < 0x10000 ? fmt::format("u{:04x}", code)
                             : fmt::format("U{:08x}", code);
    return end;
  }

  size_t read_hex(size_t at, size_t digits, std::string* out) const {
    const std::string_view text = source_.substr(at + 2, digits);
    uint32_t value = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (text.size() != digits || read.ptr != text.data() + text.size() || value > 0x10FFFF)
      fail(fmt::format("expected {} hexadecimal digits of a character after \\{}", digits,
                       source_[at + 1]),
           at);
    append_char(*out, value);
    return at + 2 + digits;
  }

  std::string_view source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<char> open_brackets_;
  std::vector<Token> tokens_;
};

}  // namespace

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

std::string describe_place(std::string_view source, size_t offset) {
  const std::string_view before = source.substr(0, std::min(offset, source.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 = 0
  return fmt::format("line {}, column {}", line, count_chars(before.substr(line_start)) + 1);
}

}  // namespace kvasir::text::jinja

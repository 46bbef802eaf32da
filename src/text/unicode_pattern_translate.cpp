#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "kvasir/error.h"
#include "text/unicode.h"
#include "text/unicode_pattern.h"

namespace kvasir::text {

namespace {

// Sets as the inside of a character class, so that they serve inside and outside of one.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
// Outside of a class Oniguruma asks a table of its own below U+0100, where these are word
// characters.
constexpr std::string_view kWordAlone = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kHex = "0-9a-fA-F";
constexpr std::string_view kNotHex = R"(\x{0}-\x{2f}\x{3a}-\x{40}\x{47}-\x{60}\x{67}-\x{10ffff})";

// Long names of general categories, in the loose form (lower case, no space, '_' or '-').
constexpr std::array<std::pair<std::string_view, std::string_view>, 39> kLongNames = {{
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"casedletter", "L&"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"surrogate", "Cs"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
}};

class Translator {
 public:
  Translator(std::string_view source, std::string_view where) : source_(source), where_(where) {}

  std::string run() {
    while (at_ < source_.size()) item();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("the expression \"{}\" uses {} at byte {}, which is not supported; "
                            "rewrite it without",
                            source_, what, at_),
                std::string(where_));
  }

  char peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }
  bool starts_with(std::string_view text) const { return source_.substr(at_).starts_with(text); }
  void copy(size_t bytes) {
    out_.append(source_.substr(at_, bytes));
    at_ = std::min(source_.size(), at_ + bytes);
  }

  void item() {
    switch (peek()) {
      case '\\':
        return escape(false);
      case '[':
        return character_class();
      case '(':
        return group();
      case '{':
        return braces();
      default:
        copy(1);
    }
  }

  void group() {
    if (!starts_with("(?")) {
      if (starts_with("(*")) refuse("(*");
      return copy(1);
    }
    const char kind = peek(2);
    if (kind == '~' || kind == '(' || kind == '&' || kind == 'R' || kind == 'P' || kind == '|' ||
        kind == '+' || kind == 'C' || (kind >= '0' && kind <= '9')) {
      refuse(fmt::format("(?{}", kind));
    }
    if (kind == '#') {
      while (at_ < source_.size() && peek() != ')') at_ += peek() == '\\' ? 2 : 1;
      at_ = std::min(source_.size(), at_ + 1);
      return;
    }
    if (kind == ':' || kind == '=' || kind == '!' || kind == '>' || kind == '<' || kind == '\'') {
      return copy(3);
    }
    options();
  }

  // (?imx-imx) and (?imx-imx:...): Oniguruma's m lets '.' match newlines.
  void options() {
    const size_t begin = at_;
    std::string translated = "(?";
    for (at_ += 2; at_ < source_.size() && peek() != ')' && peek() != ':'; ++at_) {
      const char option = peek();
      if (option != 'i' && option != 'm' && option != 'x' && option != '-') {
        refuse(fmt::format("the option '{}'", option));
      }
      translated.push_back(option == 'm' ? 's' : option);
    }
    // Without a body Oniguruma applies options to the rest of the group, alternatives included.
    if (peek() == ')' && begin != 0) refuse("options in the middle of a group");
    out_.append(translated);
    copy(1);
  }

  void braces() {
    size_t end = at_ + 1;
    while (end < source_.size() &&
           (std::isdigit(static_cast<unsigned char>(source_[end])) || source_[end] == ',')) {
      ++end;
    }
    const std::string_view inside = source_.substr(at_ + 1, end - at_ - 1);
    const bool quantifier = end < source_.size() && source_[end] == '}' && !inside.empty() &&
                            inside != "," && std::ranges::count(inside, ',') <= 1;
    if (!quantifier) {
      out_.append("\\{");
      ++at_;
      return;
    }
    if (end + 1 < source_.size() && source_[end + 1] == '+') refuse("{n,m}+");
    out_.push_back('{');
    if (inside.front() == ',') out_.push_back('0');
    out_.append(inside);
    out_.push_back('}');
    at_ = end + 1;
  }

  void character_class() {
    copy(1);
    if (peek() == '^') copy(1);
    if (peek() == ']') refuse("']' as the first member of a class");
    while (at_ < source_.size() && peek() != ']') {
      if (peek() == '[') refuse("a class inside a class");
      if (starts_with("&&")) refuse("&&");
      if (peek() == '\\') {
        escape(true);
      } else {
        copy(1);
      }
    }
    if (at_ >= source_.size()) {
      throw Error(ErrorCode::kMalformed,
                  fmt::format("the expression \"{}\" has a '[' without its ']'", source_),
                  std::string(where_));
    }
    copy(1);
  }

  void emit_set(std::string_view members, bool in_class) {
    if (in_class) {
      out_.append(members);
    } else {
      out_.append("[").append(members).append("]");
    }
  }

  void escape(bool in_class) {
    const char c = peek(1);
    if (at_ + 1 >= source_.size()) {
      throw Error(ErrorCode::kMalformed,
                  fmt::format("the expression \"{}\" ends in a backslash", source_),
                  std::string(where_));
    }
    const auto set = [&](std::string_view members) {
      emit_set(members, in_class);
      at_ += 2;
    };
    switch (c) {
      case 's':
        return set(kSpace);
      case 'S':
        return set(kNotSpace);
      case 'd':
        return set(R"(\p{Nd})");
      case 'D':
        return set(R"(\P{Nd})");
      case 'h':
        return set(kHex);
      case 'H':
        return set(kNotHex);
      case 'w':
        return set(in_class ? std::string(kWord) : fmt::format("{}{}", kWord, kWordAlone));
      case 'v':
        return set(R"(\x{b})");
      case 'p':
      case 'P':
        return property();
      case 'x':
      case 'u':
        return code_point();
      case 'W':
        if (in_class) refuse("\\W inside a class");
        out_.append("[^").append(kWord).append(kWordAlone).append("]");
        at_ += 2;
        return;
      case 'b':
      case 'B':
        if (!in_class) return word_boundary(c == 'b');
        [[fallthrough]];
      default:
        break;
    }
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) return copy(2);
    const std::string_view kept = in_class ? "tnrfaeb" : "tnrfaeAzZRX123456789";
    if (kept.find(c) == std::string_view::npos) refuse(fmt::format("\\{}", c));
    copy(2);
  }

  void word_boundary(bool at_boundary) {
    const std::string word = fmt::format("[{}{}]", kWord, kWordAlone);
    out_.append(at_boundary ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                            : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word));
    at_ += 2;
  }

  // \p{Name}, \p{^Name}, \P{Name}.
  void property() {
    const size_t close = source_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse("\\p without {Name}");
    std::string_view name = source_.substr(at_ + 3, close - at_ - 3);
    bool negated = peek(1) == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string loose;
    for (const char c : name) {
      if (c == ' ' || c == '_' || c == '-') continue;
      loose.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
    const auto* known = std::ranges::find(
        kLongNames, std::string_view(loose),
        [](const std::pair<std::string_view, std::string_view>& entry) { return entry.first; });
    const std::string_view used = known != kLongNames.end() ? known->second : name;
    out_.append(negated ? "\\P{" : "\\p{").append(used).append("}");
    at_ = close + 1;
  }

  // \xHH, \x{H...}, \uHHHH.
  void code_point() {
    size_t digits_at = at_ + 2, digits = peek(1) == 'u' ? 4 : 2;
    const bool braced = peek(1) == 'x' && peek(2) == '{';
    if (braced) {
      const size_t close = source_.find('}', at_);
      if (close == std::string_view::npos) refuse("\\x{ without }");
      digits_at = at_ + 3;
      digits = close - digits_at;
    }
    uint32_t value = 0;
    const std::string_view text = source_.substr(digits_at, digits);
    for (const char c : text) {
      const auto u = static_cast<unsigned char>(c);
      if (std::isxdigit(u) == 0 || value > 0x10FFFF) refuse("a malformed code point");
      value = value * 16 + static_cast<uint32_t>(std::isdigit(u) ? c - '0' : (u | 0x20) - 'a' + 10);
    }
    if (text.size() != digits || digits == 0) refuse("a malformed code point");
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      refuse("a code point outside Unicode");
    if (!braced && peek(1) == 'x' && value > 0x7F) refuse("a raw byte");
    out_.append(fmt::format("\\x{{{:x}}}", value));
    at_ = digits_at + digits + (braced ? 1 : 0);
  }

  std::string_view source_, where_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_pattern(std::string_view expression, std::string_view where) {
  return Translator(expression, where).run();
}

}  // namespace kvasir::text

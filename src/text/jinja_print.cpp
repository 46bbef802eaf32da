// str(), repr(), json.dumps() and printf-style formatting.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

constexpr int kMaxPrintDepth = 2 * kMaxValueDepth;  // namespaces may refer to each other

void check_print(Budget& budget, const std::string& out, int depth) {
  budget.step();
  if (depth > kMaxPrintDepth)
    throw Failure{ErrorCode::kResourceExhausted, "a value to print nests too deeply"};
  if (out.size() > budget.limits().max_output_bytes) budget.charge(out.size());
}

void append_repr(Budget& budget, const Value& value, std::string* out, int depth);

void append_entries(Budget& budget, const DictObject& dict, std::string* out, int depth) {
  *out += '{';
  bool is_first = true;
  for (const auto& [key, item] : dict.entries()) {
    if (!is_first) *out += ", ";
    is_first = false;
    append_repr(budget, key, out, depth + 1);
    *out += ": ";
    append_repr(budget, item, out, depth + 1);
  }
  *out += '}';
}

void append_sequence(Budget& budget, const SequenceObject& sequence, std::string* out, int depth) {
  if (sequence.type == SequenceType::kRange) {
    *out += sequence.repr;
    return;
  }
  const bool is_tuple = sequence.type == SequenceType::kTuple;
  const bool is_view = !is_tuple && sequence.type != SequenceType::kList;
  if (is_view)
    *out += sequence.type == SequenceType::kDictKeys     ? "dict_keys("
            : sequence.type == SequenceType::kDictValues ? "dict_values("
                                                         : "dict_items(";
  *out += is_tuple ? '(' : '[';
  for (size_t i = 0; i < sequence.items.size(); ++i) {
    if (i > 0) *out += ", ";
    append_repr(budget, sequence.items[i], out, depth + 1);
  }
  if (is_tuple && sequence.items.size() == 1) *out += ',';
  *out += is_tuple ? ')' : ']';
  if (is_view) *out += ')';
}

void append_repr(Budget& budget, const Value& value, std::string* out, int depth) {
  check_print(budget, *out, depth);
  switch (value.kind()) {
    case Kind::kUndefined:
      *out += "Undefined";
      return;
    case Kind::kNone:
      *out += "None";
      return;
    case Kind::kBool:
      *out += value.as_bool() ? "True" : "False";
      return;
    case Kind::kInt:
      *out += std::to_string(value.as_int());
      return;
    case Kind::kFloat:
      *out += format_float(value.as_double());
      return;
    case Kind::kString:
      if (value.is_markup())
        *out += "Markup(" + quote(value.as_string()) + ")";
      else
        *out += quote(value.as_string());
      return;
    case Kind::kSequence:
      append_sequence(budget, value.as_sequence(), out, depth);
      return;
    case Kind::kDict:
      append_entries(budget, value.as_dict(), out, depth);
      return;
    case Kind::kNamespace:
      *out += "<Namespace ";
      append_entries(budget, value.as_namespace().attributes, out, depth);
      *out += '>';
      return;
    case Kind::kFunction:
      *out += "<function " + value.as_function().name + ">";
      return;
    case Kind::kIterator:
      *out += "<generator object>";
      return;
    case Kind::kLoop:
      *out += "<LoopContext>";
      return;
  }
}

void append_json_string(std::string_view text, bool ensure_ascii, std::string* out) {
  *out += '"';
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const auto c = static_cast<uint32_t>(next_char(text, &at));
    switch (c) {
      case '"':
        *out += "\\\"";
        continue;
      case '\\':
        *out += "\\\\";
        continue;
      case '\n':
        *out += "\\n";
        continue;
      case '\r':
        *out += "\\r";
        continue;
      case '\t':
        *out += "\\t";
        continue;
      case '\f':
        *out += "\\f";
        continue;
      case '\b':
        *out += "\\b";
        continue;
      default:
        break;
    }
    if (c >= 0x20 && (c < 0x7F || !ensure_ascii))
      *out += text.substr(start, at - start);
    else if (c < 0x10000)
      *out += fmt::format("\\u{:04x}", c);
    else
      *out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10),
                          0xDC00 + ((c - 0x10000) & 0x3FF));
  }
  *out += '"';
}

std::string json_number(const Value& value) {
  if (value.is(Kind::kBool)) return value.as_bool() ? "true" : "false";
  if (value.is(Kind::kInt)) return std::to_string(value.as_int());
  const double number = value.as_double();
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return format_float(number);
}

class JsonWriter {
 public:
  JsonWriter(Budget* budget, const JsonOptions* options) : budget_(*budget), options_(*options) {}

  void write(const Value& value, int depth) {
    check_print(budget_, out_, depth);
    if (value.is_none()) {
      out_ += "null";
    } else if (value.is_number()) {
      out_ += json_number(value);
    } else if (value.is_string()) {
      append_json_string(value.as_string(), options_.ensure_ascii, &out_);
    } else if (value.is_list() || value.is_tuple()) {
      write_list(value.as_sequence(), depth);
    } else if (value.is(Kind::kDict)) {
      write_dict(value.as_dict(), depth);
    } else {
      fail(fmt::format("tojson: an object of type '{}' is not JSON serializable{}",
                       value.type_name(),
                       value.is_undefined() ? ": " + value.undefined_message() : ""));
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void break_line(int depth) {
    if (!options_.indent) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += *options_.indent;
  }

  void write_list(const SequenceObject& sequence, int depth) {
    if (sequence.items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    bool is_first = true;
    for (const Value& item : sequence.items) {
      if (!is_first) out_ += options_.item_separator;
      is_first = false;
      break_line(depth + 1);
      write(item, depth + 1);
    }
    break_line(depth);
    out_ += ']';
  }

  std::string key_text(const Value& key) const {
    if (key.is_string()) return key.as_string();
    if (key.is_none()) return "null";
    if (key.is_number()) return json_number(key);
    fail(fmt::format("tojson: keys must be strings, numbers or none, found '{}'", key.type_name()));
  }

  void write_dict(const DictObject& dict, int depth) {
    if (dict.size() == 0) {
      out_ += "{}";
      return;
    }
    std::vector<const DictObject::Entry*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (options_.sort_keys)
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* left, const auto* right) {
        return less(budget_, left->first, right->first);
      });
    out_ += '{';
    bool is_first = true;
    for (const auto* entry : entries) {
      if (!is_first) out_ += options_.item_separator;
      is_first = false;
      break_line(depth + 1);
      append_json_string(key_text(entry->first), options_.ensure_ascii, &out_);
      out_ += options_.key_separator;
      write(entry->second, depth + 1);
    }
    break_line(depth);
    out_ += '}';
  }

  Budget& budget_;
  const JsonOptions& options_;
  std::string out_;
};

// One conversion of a printf-style format: %[(key)][flags][width][.precision]type
struct Conversion {
  std::optional<std::string> key;
  bool left = false, zero = false, plus = false, space = false, alternate = false;
  std::optional<int> width, precision;
  char type = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(Budget* budget, std::string_view format, const Value* arguments)
      : budget_(*budget), format_(format), arguments_(*arguments) {}

  std::string run() {
    while (at_ < format_.size()) {
      const size_t mark = std::min(format_.find('%', at_), format_.size());
      out_ += format_.substr(at_, mark - at_);
      at_ = mark;
      if (at_ < format_.size()) convert(read_conversion());
      budget_.step();
    }
    // Python asks whether the argument has subscripts.
    const bool takes_all = arguments_.is(Kind::kDict) ||
                           (arguments_.is(Kind::kSequence) && !arguments_.is_tuple()) ||
                           arguments_.is_undefined() || used_key_;
    if (!takes_all && used_ < argument_count())
      fail("not all arguments were converted during string formatting");
    return std::move(out_);
  }

 private:
  size_t argument_count() const {
    return arguments_.is_tuple() ? arguments_.as_sequence().items.size() : 1;
  }

  char take() {
    if (at_ >= format_.size()) fail("incomplete format after %");
    return format_[at_++];
  }

  std::optional<int> read_count() {
    if (at_ < format_.size() && format_[at_] == '*') {
      ++at_;
      const Value& value = next_argument();
      if (!value.is_integral() || value.as_int() < 0 || value.as_int() > 10000)
        fail("* in a format needs an integer from 0 to 10000");
      return static_cast<int>(value.as_int());
    }
    std::optional<int> count;
    while (at_ < format_.size() && format_[at_] >= '0' && format_[at_] <= '9') {
      count = count.value_or(0) * 10 + (format_[at_++] - '0');
      if (*count > 10000) fail("a width in a format is larger than 10000");
    }
    return count;
  }

  Conversion read_conversion() {
    Conversion conversion;
    take();  // %
    if (at_ < format_.size() && format_[at_] == '(') {
      const size_t end = format_.find(')', at_);
      if (end == std::string_view::npos) fail("incomplete format key");
      conversion.key = std::string(format_.substr(at_ + 1, end - at_ - 1));
      at_ = end + 1;
    }
    for (bool more = true; more;) {
      const char flag = at_ < format_.size() ? format_[at_] : '\0';
      conversion.left |= flag == '-';
      conversion.zero |= flag == '0';
      conversion.plus |= flag == '+';
      conversion.space |= flag == ' ';
      conversion.alternate |= flag == '#';
      more = flag == '-' || flag == '0' || flag == '+' || flag == ' ' || flag == '#';
      if (more) ++at_;
    }
    conversion.width = read_count();
    if (at_ < format_.size() && format_[at_] == '.') {
      ++at_;
      conversion.precision = read_count().value_or(0);
    }
    conversion.type = take();
    return conversion;
  }

  const Value& next_argument() {
    if (used_ >= argument_count()) fail("not enough arguments for format string");
    ++used_;
    return arguments_.is_tuple() ? arguments_.as_sequence().items[used_ - 1] : arguments_;
  }

  const Value& argument_for(const Conversion& conversion) {
    if (!conversion.key) return next_argument();
    if (!arguments_.is(Kind::kDict)) fail("format requires a mapping");
    used_key_ = true;
    const Value* found = arguments_.as_dict().find(*conversion.key);
    if (found == nullptr) fail(fmt::format("format: there is no key '{}'", *conversion.key));
    return *found;
  }

  static double number_of(const Value& value, char type) {
    if (value.is_undefined()) fail(value.undefined_message());
    if (!value.is_number())
      fail(fmt::format("%{} format: expected a number, found '{}'", type, value.type_name()));
    return value.as_double();
  }

  static std::string integer_digits(const Value& value, const Conversion& conversion) {
    int64_t number = 0;
    if (value.is(Kind::kFloat) &&
        (conversion.type == 'd' || conversion.type == 'i' || conversion.type == 'u')) {
      const double whole = std::trunc(value.as_double());
      if (!(std::abs(whole) < 9.2e18)) fail("format: the number does not fit 64 signed bits");
      number = static_cast<int64_t>(whole);
    } else {
      number_of(value, conversion.type);
      if (!value.is_integral())
        fail(fmt::format("%{} format: expected an integer", conversion.type));
      number = value.as_int();
    }
    const uint64_t magnitude =
        number < 0 ? uint64_t{0} - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    std::string digits = conversion.type == 'x'   ? fmt::format("{:x}", magnitude)
                         : conversion.type == 'X' ? fmt::format("{:X}", magnitude)
                         : conversion.type == 'o' ? fmt::format("{:o}", magnitude)
                                                  : std::to_string(magnitude);
    const auto precision = static_cast<size_t>(conversion.precision.value_or(0));
    if (digits.size() < precision) digits.insert(0, precision - digits.size(), '0');
    if (conversion.alternate && (conversion.type == 'x' || conversion.type == 'X'))
      digits.insert(0, conversion.type == 'x' ? "0x" : "0X");
    return number < 0 ? "-" + digits : digits;
  }

  static std::string float_digits(const Value& value, const Conversion& conversion) {
    const double number = number_of(value, conversion.type);
    const char pattern[] = {'%', '.', '*', conversion.type, '\0'};
    std::string digits(512 + static_cast<size_t>(conversion.precision.value_or(6)), '\0');
    const int size = std::snprintf(digits.data(), digits.size(), pattern,
                                   conversion.precision.value_or(6), number);
    digits.resize(static_cast<size_t>(size));
    return digits;
  }

  void convert(const Conversion& conversion) {
    if (conversion.type == '%') {
      out_ += '%';
      return;
    }
    const Value& value = argument_for(conversion);
    std::string text;
    bool is_number = true;
    switch (conversion.type) {
      case 's':
      case 'r':
      case 'a':
        text = conversion.type == 's' ? to_text(budget_, value) : to_repr(budget_, value);
        if (conversion.precision) text = cut(text, static_cast<size_t>(*conversion.precision));
        is_number = false;
        break;
      case 'c':
        fail("%c in a format is not offered");
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        text = integer_digits(value, conversion);
        break;
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G':
        text = float_digits(value, conversion);
        break;
      default:
        fail(fmt::format("unsupported format character '{}'", conversion.type));
    }
    if (is_number && text[0] != '-' && (conversion.plus || conversion.space))
      text.insert(0, conversion.plus ? "+" : " ");
    append_padded(text, conversion, is_number);
    budget_.charge(text.size());
    if (out_.size() > budget_.limits().max_output_bytes) budget_.charge(out_.size());
  }

  static std::string cut(const std::string& text, size_t characters) {
    size_t at = 0;
    for (size_t i = 0; i < characters && at < text.size(); ++i) next_char(text, &at);
    return text.substr(0, at);
  }

  void append_padded(const std::string& text, const Conversion& conversion, bool is_number) {
    const size_t size = count_chars(text);
    const auto width = static_cast<size_t>(conversion.width.value_or(0));
    const size_t padding = width > size ? width - size : 0;
    if (conversion.left) {
      out_ += text + std::string(padding, ' ');
    } else if (conversion.zero && is_number) {
      const size_t sign = text[0] == '-' || text[0] == '+' || text[0] == ' ' ? 1 : 0;
      out_ += text.substr(0, sign) + std::string(padding, '0') + text.substr(sign);
    } else {
      out_ += std::string(padding, ' ') + text;
    }
  }

  Budget& budget_;
  std::string_view format_;
  const Value& arguments_;
  size_t at_ = 0, used_ = 0;
  bool used_key_ = false;
  std::string out_;
};

}  // namespace

std::string to_repr(Budget& budget, const Value& value) {
  std::string out;
  append_repr(budget, value, &out, 0);
  budget.charge(out.size());
  return out;
}

std::string to_text(Budget& budget, const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_string()) {
    budget.charge(value.as_string().size());
    return value.as_string();
  }
  return to_repr(budget, value);
}

std::string to_json(Budget& budget, const Value& value, const JsonOptions& options) {
  JsonWriter writer(&budget, &options);
  writer.write(value, 0);
  std::string text = writer.take();
  budget.charge(text.size());
  return text;
}

std::string format_percent(Budget& budget, std::string_view format, const Value& arguments) {
  return PercentFormatter(&budget, format, &arguments).run();
}

}  // namespace kvasir::text::jinja

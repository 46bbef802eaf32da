#include "text/jinja_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

[[noreturn]] void fail_operands(std::string_view symbol, const Value& left, const Value& right) {
  if (left.is_undefined()) fail(left.undefined_message());
  if (right.is_undefined()) fail(right.undefined_message());
  fail(fmt::format("unsupported operand types for {}: '{}' and '{}'", symbol, left.type_name(),
                   right.type_name()));
}

[[noreturn]] void fail_overflow(std::string_view symbol) {
  throw Failure{ErrorCode::kUnsupported,
                fmt::format("the result of integer {} does not fit 64 signed bits", symbol)};
}

bool equal_at(Budget& budget, const Value& left, const Value& right, int depth);

bool equal_sequences(Budget& budget, const SequenceObject& left, const SequenceObject& right,
                     int depth) {
  if (left.type != right.type || left.items.size() != right.items.size()) return false;
  for (size_t i = 0; i < left.items.size(); ++i)
    if (!equal_at(budget, left.items[i], right.items[i], depth + 1)) return false;
  return true;
}

bool equal_dicts(Budget& budget, const DictObject& left, const DictObject& right, int depth) {
  if (left.size() != right.size()) return false;
  for (const auto& [key, value] : left.entries()) {
    charge_scan(budget, key);
    const Value* other = right.find(key);
    if (other == nullptr || !equal_at(budget, value, *other, depth + 1)) return false;
  }
  return true;
}

bool equal_at(Budget& budget, const Value& left, const Value& right, int depth) {
  budget.step();
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_int() == right.as_int();
    const auto number = [](const Value& value) {
      return value.is_integral() ? static_cast<long double>(value.as_int())
                                 : static_cast<long double>(value.as_double());
    };
    return number(left) == number(right);
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kString:
      budget.charge(std::min(left.as_string().size(), right.as_string().size()));
      return left.as_string() == right.as_string();
    case Kind::kSequence:
      if (&left.as_sequence() == &right.as_sequence()) return true;
      return equal_sequences(budget, left.as_sequence(), right.as_sequence(), depth);
    case Kind::kDict:
      if (&left.as_dict() == &right.as_dict()) return true;
      return equal_dicts(budget, left.as_dict(), right.as_dict(), depth);
    default:
      return left.same_as(right);
  }
}

int64_t floor_divide(int64_t left, int64_t right) {
  const int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

double float_modulo(double left, double right) {
  double result = std::fmod(left, right);
  if (result != 0) {
    if ((right < 0) != (result < 0)) result += right;
  } else {
    result = std::copysign(0.0, right);
  }
  return result;
}

double float_floor_divide(double left, double right) {
  double modulo = std::fmod(left, right);
  double quotient = (left - modulo) / right;
  if (modulo != 0 && (right < 0) != (modulo < 0)) quotient -= 1.0;
  if (quotient == 0) return std::copysign(0.0, left / right);
  double rounded = std::floor(quotient);
  if (quotient - rounded > 0.5) rounded += 1.0;
  return rounded;
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if (exponent & 1)
      if (__builtin_mul_overflow(result, base, &result)) fail_overflow("**");
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow("**");
  }
  return Value::integer(result);
}

Value integer_binary(char symbol, bool is_double, int64_t left, int64_t right) {
  int64_t result = 0;
  switch (symbol) {
    case '+':
      if (__builtin_add_overflow(left, right, &result)) fail_overflow("+");
      return Value::integer(result);
    case '-':
      if (__builtin_sub_overflow(left, right, &result)) fail_overflow("-");
      return Value::integer(result);
    case '*':
      if (is_double) return integer_power(left, right);
      if (__builtin_mul_overflow(left, right, &result)) fail_overflow("*");
      return Value::integer(result);
    default:
      break;
  }
  if (right == 0) fail("division by zero");
  if (symbol == '/' && !is_double)
    return Value::real(static_cast<double>(static_cast<long double>(left) / right));
  if (left == std::numeric_limits<int64_t>::min() && right == -1) {
    if (symbol == '%') return Value::integer(0);
    fail_overflow("//");
  }
  const int64_t quotient = floor_divide(left, right);
  return Value::integer(symbol == '%' ? left - quotient * right : quotient);
}

Value float_binary(char symbol, bool is_double, double left, double right) {
  switch (symbol) {
    case '+':
      return Value::real(left + right);
    case '-':
      return Value::real(left - right);
    case '*': {
      if (!is_double) return Value::real(left * right);
      if (left == 0 && right < 0) fail("0.0 cannot be raised to a negative power");
      const double power = std::pow(left, right);
      if (std::isnan(power) && !std::isnan(left) && !std::isnan(right))
        throw Failure{ErrorCode::kUnsupported, "complex numbers are not offered"};
      if (std::isinf(power) && std::isfinite(left) && std::isfinite(right))
        fail("the result of ** is too large for a float");
      return Value::real(power);
    }
    default:
      break;
  }
  if (right == 0) fail("float division by zero");
  if (symbol == '%') return Value::real(float_modulo(left, right));
  return Value::real(is_double ? float_floor_divide(left, right) : left / right);
}

Value add_strings(Budget& budget, const Value& left, const Value& right) {
  const bool is_markup = left.is_markup() || right.is_markup();
  budget.charge(left.as_string().size() + right.as_string().size());
  if (!is_markup) return Value::string(left.as_string() + right.as_string());
  const auto escaped = [](const Value& value) {
    return value.is_markup() ? value.as_string() : escape_html(value.as_string());
  };
  return Value::string(escaped(left) + escaped(right), true);
}

Value repeat(Budget& budget, const Value& value, int64_t count) {
  if (count < 0) count = 0;
  uint64_t bytes = 0;
  const size_t unit = value.is_string() ? value.as_string().size()
                                        : value.as_sequence().items.size() * sizeof(Value);
  if (__builtin_mul_overflow(unit, static_cast<uint64_t>(count), &bytes))
    bytes = std::numeric_limits<uint64_t>::max() / 2;
  budget.charge(bytes);
  if (value.is_string()) {
    std::string text;
    text.reserve(bytes);
    if (unit > 0)
      for (int64_t i = 0; i < count; ++i) text += value.as_string();
    return Value::string(std::move(text), value.is_markup());
  }
  const SequenceObject& sequence = value.as_sequence();
  std::vector<Value> items;
  items.reserve(bytes / sizeof(Value));
  if (unit > 0)
    for (int64_t i = 0; i < count; ++i)
      items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  return Value::sequence(sequence.type, std::move(items));
}

std::optional<int64_t> slice_index(const Value& value) {
  if (value.is_none()) return std::nullopt;
  if (value.is_undefined()) fail("slice indices must be integers or none, found undefined");
  if (!value.is_integral())
    fail(fmt::format("slice indices must be integers or none, found '{}'", value.type_name()));
  return value.as_int();
}

struct Slice {
  int64_t first, last, stride;  // from `first` on, `last` excluded
};

// What a slice of `size` elements picks.
Slice make_slice(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const int64_t stride = slice_index(step).value_or(1);
  if (stride == 0) fail("slice step cannot be zero");
  const int64_t lowest = stride < 0 ? -1 : 0, highest = stride < 0 ? size - 1 : size;
  const auto clamp = [&](std::optional<int64_t> index, int64_t missing) {
    if (!index) return missing;
    if (*index < 0) return std::max(*index + size, lowest);
    return std::min(*index, highest);
  };
  const int64_t first = clamp(slice_index(start), stride < 0 ? highest : lowest);
  const int64_t last = clamp(slice_index(stop), stride < 0 ? lowest : highest);
  return {first, last, stride};
}

// Calls pick(index) for each element of the slice.
template <class Pick>
void for_each_index(const Slice& slice, const Pick& pick) {
  for (int64_t at = slice.first; slice.stride > 0 ? at < slice.last : at > slice.last;) {
    pick(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, slice.stride, &at)) break;
  }
}

// Where the character stands that is `count` characters behind the one at `from`.
size_t char_offset(std::string_view text, size_t from, int64_t count) {
  for (; count > 0 && from < text.size(); --count) next_char(text, &from);
  return from;
}

std::string slice_text(Budget& budget, const std::string& text, const Value& start,
                       const Value& stop, const Value& step) {
  budget.charge(text.size());
  const Slice slice = make_slice(static_cast<int64_t>(count_chars(text)), start, stop, step);
  if (slice.stride == 1) {
    const size_t begin = char_offset(text, 0, slice.first);
    const size_t end = char_offset(text, begin, slice.last - slice.first);
    return text.substr(begin, end - begin);
  }
  const auto characters = split_chars(text);
  std::string picked;
  for_each_index(slice, [&](size_t at) { picked += characters[at]; });
  return picked;
}

}  // namespace

void charge_scan(Budget& budget, const Value& value) {
  if (value.is_string()) budget.charge(value.as_string().size());
}

void charge_scan(Budget& budget, const Arguments& arguments) {
  for (const Value& value : arguments.positional) charge_scan(budget, value);
  for (const auto& [name, value] : arguments.named) charge_scan(budget, value);
}

Value make_string(Budget& budget, std::string text, bool is_markup) {
  budget.charge(text.size());
  return Value::string(std::move(text), is_markup);
}

Value make_list(Budget& budget, std::vector<Value> items) {
  budget.charge(items.size() * sizeof(Value));
  return Value::list(std::move(items));
}

bool equal(Budget& budget, const Value& left, const Value& right) {
  return equal_at(budget, left, right, 0);
}

bool less(Budget& budget, const Value& left, const Value& right) {
  budget.step();
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_int() < right.as_int();
    const auto number = [](const Value& value) {
      return value.is_integral() ? static_cast<long double>(value.as_int())
                                 : static_cast<long double>(value.as_double());
    };
    return number(left) < number(right);
  }
  if (left.is_string() && right.is_string()) {
    budget.charge(std::min(left.as_string().size(), right.as_string().size()));
    return left.as_string() < right.as_string();
  }
  if ((left.is_list() && right.is_list()) || (left.is_tuple() && right.is_tuple())) {
    const auto& first = left.as_sequence().items;
    const auto& second = right.as_sequence().items;
    for (size_t i = 0; i < std::min(first.size(), second.size()); ++i)
      if (!equal(budget, first[i], second[i])) return less(budget, first[i], second[i]);
    return first.size() < second.size();
  }
  if (left.is_undefined()) fail(left.undefined_message());
  if (right.is_undefined()) fail(right.undefined_message());
  fail(fmt::format("'{}' and '{}' cannot be put in order", left.type_name(), right.type_name()));
}

bool contains(Budget& budget, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is_string()) {
        fail(item.is_undefined()
                 ? "expected a string left of 'in', found undefined: " + item.undefined_message()
                 : fmt::format("expected a string left of 'in', found '{}'", item.type_name()));
      }
      budget.charge(container.as_string().size());
      return find_text(container.as_string(), item.as_string()) != std::string::npos;
    case Kind::kDict:
      charge_scan(budget, item);
      return container.as_dict().find(item) != nullptr;
    default: {
      Cursor cursor(container);
      Value other;
      while (cursor.next(&other))
        if (equal(budget, other, item)) return true;
      return false;
    }
  }
}

bool compare(Budget& budget, std::string_view symbol, const Value& left, const Value& right) {
  if (symbol == "==") return equal(budget, left, right);
  if (symbol == "!=") return !equal(budget, left, right);
  if (symbol == "<") return less(budget, left, right);
  if (symbol == ">") return less(budget, right, left);
  if (symbol == "in") return contains(budget, right, left);
  if (symbol == "not in") return !contains(budget, right, left);
  // <= is not the opposite of > for NaN.
  const bool is_less = symbol == "<=" ? less(budget, left, right) : less(budget, right, left);
  return is_less || equal(budget, left, right);
}

Value binary(Budget& budget, std::string_view symbol, const Value& left, const Value& right) {
  if (symbol == "%" && left.is_string()) {
    if (right.is_undefined() && left.is_markup()) fail(right.undefined_message());
    return make_string(budget, format_percent(budget, left.as_string(), right), left.is_markup());
  }
  if (left.is_number() && right.is_number()) {
    const bool is_double = symbol.size() == 2;
    if (left.is_integral() && right.is_integral())
      return integer_binary(symbol[0], is_double, left.as_int(), right.as_int());
    return float_binary(symbol[0], is_double, left.as_double(), right.as_double());
  }
  if (symbol == "+") {
    if (left.is_string() && right.is_string()) return add_strings(budget, left, right);
    if ((left.is_list() && right.is_list()) || (left.is_tuple() && right.is_tuple())) {
      std::vector<Value> items = left.as_sequence().items;
      const auto& more = right.as_sequence().items;
      budget.charge((items.size() + more.size()) * sizeof(Value));
      items.insert(items.end(), more.begin(), more.end());
      return Value::sequence(left.as_sequence().type, std::move(items));
    }
  }
  if (symbol == "*") {
    const auto repeats = [](const Value& value) {
      return value.is_string() || value.is_list() || value.is_tuple();
    };
    if (repeats(left) && right.is_integral()) return repeat(budget, left, right.as_int());
    if (repeats(right) && left.is_integral()) return repeat(budget, right, left.as_int());
  }
  fail_operands(symbol, left, right);
}

Value negative(const Value& value) {
  if (value.is_integral()) {
    int64_t result = 0;
    if (__builtin_sub_overflow(int64_t{0}, value.as_int(), &result)) fail_overflow("-");
    return Value::integer(result);
  }
  if (value.is(Kind::kFloat)) return Value::real(-value.as_double());
  if (value.is_undefined()) fail(value.undefined_message());
  fail(fmt::format("unsupported operand type for unary -: '{}'", value.type_name()));
}

Value positive(const Value& value) {
  if (value.is_integral()) return Value::integer(value.as_int());
  if (value.is(Kind::kFloat)) return value;
  if (value.is_undefined()) fail(value.undefined_message());
  fail(fmt::format("unsupported operand type for unary +: '{}'", value.type_name()));
}

Value get_item(Budget& budget, const Value& object, const Value& key) {
  if (object.is_undefined()) fail(object.undefined_message());
  charge_scan(budget, key);
  if (object.is(Kind::kDict)) {
    const bool is_hashable = !key.is(Kind::kDict) && (!key.is(Kind::kSequence) || key.is_tuple());
    if (is_hashable)
      if (const Value* found = object.as_dict().find(key)) return *found;
  } else if (key.is_integral()) {
    const int64_t index = key.as_int();
    if (object.is_string()) {
      charge_scan(budget, object);
      const std::string& text = object.as_string();
      const int64_t at = index < 0 ? index + static_cast<int64_t>(count_chars(text)) : index;
      size_t end = at < 0 ? text.size() : char_offset(text, 0, at);
      if (end < text.size()) {
        const size_t begin = end;
        next_char(text, &end);
        return Value::string(text.substr(begin, end - begin), object.is_markup());
      }
    } else if (object.is(Kind::kSequence) && object.as_sequence().type <= SequenceType::kRange) {
      const auto& items = object.as_sequence().items;
      const int64_t at = index < 0 ? index + static_cast<int64_t>(items.size()) : index;
      if (at >= 0 && at < static_cast<int64_t>(items.size())) return items[static_cast<size_t>(at)];
    }
  }
  if (key.is_string())
    if (auto found = find_method(object, key.as_string())) return *found;
  if (key.is_undefined())
    return Value::undefined("the key is undefined: " + key.undefined_message());
  return Value::undefined(key.is_string() ? fmt::format("'{} object' has no attribute {}",
                                                        object.type_name(), quote(key.as_string()))
                                          : fmt::format("{} object has no element {}",
                                                        object.type_name(), to_repr(budget, key)));
}

Value get_attribute(Budget&, const Value& object, std::string_view name) {
  if (object.is_undefined()) fail(object.undefined_message());
  if (auto found = find_method(object, name)) return *found;
  if (object.is(Kind::kDict))
    if (const Value* found = object.as_dict().find(name)) return *found;
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", object.type_name(), name));
}

Value get_slice(Budget& budget, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  if (object.is_undefined()) fail(object.undefined_message());
  if (object.is_string()) {
    return make_string(budget, slice_text(budget, object.as_string(), start, stop, step),
                       object.is_markup());
  }
  if (object.is(Kind::kSequence) && object.as_sequence().type <= SequenceType::kRange) {
    const auto& items = object.as_sequence().items;
    budget.charge(items.size() * sizeof(Value));
    std::vector<Value> picked;
    for_each_index(make_slice(static_cast<int64_t>(items.size()), start, stop, step),
                   [&](size_t at) { picked.push_back(items[at]); });
    const auto type = object.as_sequence().type;
    return Value::sequence(type == SequenceType::kTuple ? type : SequenceType::kList,
                           std::move(picked));
  }
  fail(fmt::format("'{}' object cannot be sliced", object.type_name()));
}

int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<int64_t>(count_chars(value.as_string()));
    case Kind::kSequence:
      return static_cast<int64_t>(value.as_sequence().items.size());
    case Kind::kDict:
      return static_cast<int64_t>(value.as_dict().size());
    default:
      fail(fmt::format("object of type '{}' has no length", value.type_name()));
  }
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kSequence:
    case Kind::kDict:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

Cursor::Cursor(Value source) : source_(std::move(source)) {
  if (!is_iterable(source_)) fail(fmt::format("'{}' object is not iterable", source_.type_name()));
}

bool Cursor::next(Value* item) {
  switch (source_.kind()) {
    case Kind::kString: {
      const std::string& text = source_.as_string();
      if (at_ >= text.size()) return false;
      const size_t start = at_;
      next_char(text, &at_);
      *item = Value::string(text.substr(start, at_ - start));
      return true;
    }
    case Kind::kSequence: {
      const auto& items = source_.as_sequence().items;
      if (at_ >= items.size()) return false;
      *item = items[at_++];
      return true;
    }
    case Kind::kDict: {
      const auto& entries = source_.as_dict().entries();
      if (at_ >= entries.size()) return false;
      *item = entries[at_++].first;
      return true;
    }
    case Kind::kIterator:
      return source_.as_iterator().next(item);
    default:
      return false;
  }
}

std::vector<Value> to_vector(Budget& budget, const Value& value) {
  Cursor cursor(value);
  std::vector<Value> items;
  Value item;
  while (cursor.next(&item)) {
    budget.charge(sizeof(Value));
    items.push_back(item);
  }
  return items;
}

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  text = strip(text, Side::kBoth);
  bool is_negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    is_negative = text[0] == '-';
    text.remove_prefix(1);
  }
  int radix = static_cast<int>(base);
  if (text.size() > 2 && text[0] == '0') {
    const int mark = text[1] | 0x20;
    const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (radix == marked || radix == 0)) {
      radix = marked;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
    }
  }
  if (radix == 0) radix = 10;
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_' && i > 0 && text[i - 1] != '_' && i + 1 < text.size()) continue;
    digits += text[i];
  }
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return std::nullopt;
  if (is_negative) digits.insert(digits.begin(), '-');
  int64_t value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, radix);
  if (read.ptr != digits.data() + digits.size()) return std::nullopt;
  if (read.ec == std::errc::result_out_of_range)
    throw Failure{ErrorCode::kUnsupported, "an integer does not fit 64 signed bits"};
  if (read.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Side::kBoth);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit_at = [&](size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (text[i] == '_' && i > 0 && is_digit_at(i - 1) && is_digit_at(i + 1)) continue;
    digits += text[i];
  }
  const bool has_sign = !digits.empty() && (digits[0] == '-' || digits[0] == '+');
  const size_t start = has_sign ? 1 : 0;
  if (start >= digits.size() || digits[start] == '-' || digits[start] == '+') return std::nullopt;
  if (digits.find('(') != std::string::npos) return std::nullopt;  // nan(...)
  double value = 0;
  const auto read = std::from_chars(digits.data() + start, digits.data() + digits.size(), value);
  if (read.ptr != digits.data() + digits.size()) return std::nullopt;
  if (read.ec == std::errc::result_out_of_range)
    value = std::strtod(digits.c_str() + start, nullptr);  // inf or 0, as in Python
  else if (read.ec != std::errc())
    return std::nullopt;
  return digits[0] == '-' ? -value : value;
}

Bound::Bound(std::string_view callable, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required)
    : callable_(callable), names_(names.begin(), names.end()), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names_.size())
    fail(fmt::format("{} takes at most {} arguments, found {}", callable_, names_.size(),
                     arguments.positional.size()));
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) fail(fmt::format("{} takes no argument '{}'", callable_, name));
    const Value*& place = values_[static_cast<size_t>(found - names_.begin())];
    if (place != nullptr) fail(fmt::format("{} got the argument '{}' twice", callable_, name));
    place = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (values_[i] == nullptr)
      fail(fmt::format("{} needs the argument '{}'", callable_, names_[i]));
}

int64_t Bound::get_int(size_t index, int64_t default_value) const {
  if (!has(index)) return default_value;
  const Value& value = *values_[index];
  if (value.is_undefined()) fail(value.undefined_message());
  if (!value.is_integral())
    fail(fmt::format("{}: expected an integer for '{}', found '{}'", callable_, names_[index],
                     value.type_name()));
  return value.as_int();
}

std::string Bound::get_text(size_t index, std::string default_value) const {
  if (!has(index)) return default_value;
  const Value& value = *values_[index];
  if (value.is_undefined()) fail(value.undefined_message());
  if (!value.is_string())
    fail(fmt::format("{}: expected a string for '{}', found '{}'", callable_, names_[index],
                     value.type_name()));
  return value.as_string();
}

}  // namespace kvasir::text::jinja

// Jinja's filters.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/jinja_filter_tools.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

// soft_str: strings stay as they are, markup included.
Value soft_string(Interpreter& interpreter, const Value& value) {
  if (value.is_string()) return value;
  return make_string(interpreter.budget(), to_text(interpreter.budget(), value));
}

Value call_method(Interpreter& interpreter, const Value& self, std::string_view name,
                  const Arguments& arguments) {
  return interpreter.call(*find_method(self, name), arguments);
}

// ---- text ----

Value filter_string(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return soft_string(interpreter, input);
}

Value filter_trim(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("trim", arguments, {"chars"});
  Arguments passed;
  passed.positional.push_back(bound.get(0, Value::none()));
  return call_method(interpreter, soft_string(interpreter, input), "strip", passed);
}

template <std::string (*convert)(std::string_view)>
Value filter_convert(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("this filter", arguments, {});
  const Value text = soft_string(interpreter, input);
  return make_string(interpreter.budget(), convert(text.as_string()), text.is_markup());
}

Value filter_title(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("title", arguments, {});
  return make_string(interpreter.budget(),
                     title_words(soft_string(interpreter, input).as_string()));
}

Value filter_replace(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  Budget& budget = interpreter.budget();
  Arguments passed;
  passed.positional.push_back(make_string(budget, to_text(budget, bound[0])));
  passed.positional.push_back(make_string(budget, to_text(budget, bound[1])));
  const bool counts = bound.has(2) && !bound[2].is_none();
  passed.positional.push_back(Value::integer(counts ? bound.get_int(2, -1) : -1));
  const Value text = make_string(budget, to_text(budget, input));
  return call_method(interpreter, text, "replace", passed);
}

Value filter_escape(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("escape", arguments, {});
  if (input.is_markup()) return input;
  const std::string text = to_text(interpreter.budget(), input);
  return make_string(interpreter.budget(), escape_html(text), true);
}

Value filter_force_escape(Interpreter& interpreter, const Value& input,
                          const Arguments& arguments) {
  const Bound bound("forceescape", arguments, {});
  const std::string text = to_text(interpreter.budget(), input);
  return make_string(interpreter.budget(), escape_html(text), true);
}

Value filter_safe(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("safe", arguments, {});
  return make_string(interpreter.budget(), to_text(interpreter.budget(), input), true);
}

Value filter_indent(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  if (input.is_undefined()) fail(input.undefined_message());
  if (!input.is_string())
    fail(fmt::format("indent: expected a string, found '{}'", input.type_name()));
  std::string indention(4, ' ');
  if (bound.has(0)) {
    if (bound[0].is_string()) {
      indention = bound[0].as_string();
    } else {
      const int64_t width = std::max<int64_t>(bound.get_int(0, 4), 0);
      interpreter.budget().charge(static_cast<uint64_t>(width));
      indention = std::string(static_cast<size_t>(width), ' ');
    }
  }
  const bool blank = bound.get_bool(2, false);
  const std::string source = input.as_string() + "\n";
  std::string out = bound.get_bool(1, false) ? indention : "";
  bool is_first = true;
  for (const std::string_view line : split_lines(source, false)) {
    interpreter.budget().charge(indention.size() + line.size());
    if (!is_first) out += '\n';
    if (!is_first && (blank || !line.empty())) out += indention;
    is_first = false;
    out += line;
  }
  return make_string(interpreter.budget(), std::move(out), input.is_markup());
}

Value filter_word_count(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  const Value text = soft_string(interpreter, input);
  int64_t count = 0;
  bool inside = false;
  for (size_t at = 0; at < text.as_string().size();) {
    const char32_t c = next_char(text.as_string(), &at);
    const bool is_part = c < 0x80 ? is_word(c) : is_word(c) && (c == U'_' || !is_mark(c));
    count += is_part && !inside ? 1 : 0;
    inside = is_part;
  }
  return Value::integer(count);
}

Value filter_truncate(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const int64_t limit = bound.get_int(0, 255);
  const std::string end = bound.get_text(2, "...");
  const int64_t leeway = bound.has(3) && bound[3].is_none() ? 5 : bound.get_int(3, 5);
  const int64_t kept = limit - static_cast<int64_t>(count_chars(end));
  if (kept < 0 || leeway < 0) fail("truncate: expected length >= the end's length and leeway >= 0");
  Budget& budget = interpreter.budget();
  if (length(input) <= limit + std::min<int64_t>(leeway, INT32_MAX)) return input;
  if (!input.is_string())
    fail(fmt::format("truncate: expected a string, found '{}'", input.type_name()));
  const Value head = get_slice(budget, input, Value::none(), Value::integer(kept), Value::none());
  if (bound.get_bool(1, false)) return make_string(budget, head.as_string() + end);
  const auto parts = rsplit_on(head.as_string(), " ", 1);
  return make_string(budget, std::string(parts.front()) + end);
}

Value filter_center(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("center", arguments, {"width"});
  Arguments passed;
  passed.positional.push_back(bound.get(0, Value::integer(80)));
  return call_method(interpreter, soft_string(interpreter, input), "center", passed);
}

Value filter_format(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Value format = soft_string(interpreter, input);
  if (!arguments.named.empty() && !arguments.positional.empty())
    fail("format: expected positional or named arguments, found both");
  Value values = Value::tuple(arguments.positional);
  if (!arguments.named.empty()) {
    DictObject named;
    for (const auto& [name, value] : arguments.named) named.set(Value::string(name), value);
    values = Value::dict(std::move(named));
  }
  return make_string(interpreter.budget(),
                     format_percent(interpreter.budget(), format.as_string(), values));
}

Value filter_to_json(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = bound.get_bool(0, false);
  options.sort_keys = bound.get_bool(3, false);
  if (bound.has(1) && !bound[1].is_none()) {
    if (bound[1].is_string()) {
      options.indent = bound[1].as_string();
    } else {
      const int64_t width = std::clamp<int64_t>(bound.get_int(1, 0), 0, 1 << 20);
      options.indent = std::string(static_cast<size_t>(width), ' ');
    }
    options.item_separator = ",";
  }
  if (bound.has(2) && !bound[2].is_none()) {
    const std::vector<Value> pair = to_vector(interpreter.budget(), bound[2]);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      fail("tojson: expected two strings as separators");
    options.item_separator = pair[0].as_string();
    options.key_separator = pair[1].as_string();
  }
  return Value::string(to_json(interpreter.budget(), input, options));
}

// ---- numbers ----

Value filter_int(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  const auto whole = [&](double number) {
    if (std::isinf(number)) fail("cannot convert float infinity to integer");
    if (std::abs(number) >= 9.2e18)
      throw Failure{ErrorCode::kUnsupported, "a number does not fit 64 signed bits"};
    return Value::integer(static_cast<int64_t>(number));
  };
  if (input.is_undefined()) fail(input.undefined_message());
  if (input.is_integral()) return Value::integer(input.as_int());
  if (input.is(Kind::kFloat) && !std::isnan(input.as_double())) return whole(input.as_double());
  if (input.is_string()) {
    if (const auto number = parse_int(input.as_string(), bound.get_int(1, 10)))
      return Value::integer(*number);
    const auto number = parse_float(input.as_string());
    if (number && std::isfinite(*number)) return whole(*number);
  }
  return bound.get(0, Value::integer(0));
}

Value filter_float(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  if (input.is_undefined()) fail(input.undefined_message());
  if (input.is_number()) return Value::real(input.as_double());
  if (input.is_string())
    if (const auto number = parse_float(input.as_string())) return Value::real(*number);
  return bound.get(0, Value::real(0));
}

Value filter_abs(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  if (input.is(Kind::kFloat)) return Value::real(std::abs(input.as_double()));
  if (!input.is_integral())
    fail(fmt::format("abs: expected a number, found '{}'", input.type_name()));
  return input.as_int() < 0 ? negative(input) : positive(input);
}

// Round half to even at a decimal place.
double round_float(double number, int64_t precision) {
  if (!std::isfinite(number) || precision > 300) return number;
  if (precision < -300) return 0;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(number / scale) * scale;
  }
  return std::strtod(fmt::format("{:.{}f}", number, precision).c_str(), nullptr);
}

Value round_integer(int64_t number, int64_t precision) {
  if (precision >= 0) return Value::integer(number);
  if (precision < -18) return Value::integer(0);
  int64_t scale = 1;
  for (int64_t i = precision; i < 0; ++i) scale *= 10;
  int64_t rest = number % scale;
  if (rest < 0) rest += scale;
  int64_t down = 0;
  if (__builtin_sub_overflow(number, rest, &down)) return Value::integer(number);
  const bool is_odd = (down / scale) % 2 != 0;
  const bool goes_up = rest > scale / 2 || (rest == scale / 2 && is_odd);
  if (goes_up && __builtin_add_overflow(down, scale, &down)) return Value::integer(number);
  return Value::integer(down);
}

Value filter_round(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  const int64_t precision = bound.get_int(0, 0);
  const std::string method = bound.get_text(1, "common");
  if (method != "common" && method != "ceil" && method != "floor")
    fail("round: the method must be common, ceil or floor");
  if (!input.is_number())
    fail(fmt::format("round: expected a number, found '{}'", input.type_name()));
  if (method == "common") {
    if (input.is_integral()) return round_integer(input.as_int(), precision);
    return Value::real(round_float(input.as_double(), precision));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_double() * scale;
  if (!std::isfinite(scaled)) fail("round: the number is out of range");
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

// ---- one value ----

Value filter_default(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  if (input.is_undefined() || (bound.get_bool(1, false) && !input.truthy()))
    return bound.get(0, Value::string(""));
  return input;
}

Value filter_length(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("length", arguments, {});
  if (input.is(Kind::kLoop)) return Value::integer(input.as_loop().length(interpreter.budget()));
  return Value::integer(length(input));
}

Value filter_list(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return Value::list(to_vector(interpreter.budget(), input));
}

Value filter_items(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  return Value::iterator(input.depth() + 1, [input, at = size_t{0}](Value* item) mutable {
    if (input.is_undefined()) return false;
    if (!input.is(Kind::kDict))
      fail(fmt::format("items: expected a mapping, found '{}'", input.type_name()));
    if (at >= input.as_dict().size()) return false;
    const auto& [key, value] = input.as_dict().entries()[at++];
    *item = Value::tuple({key, value});
    return true;
  });
}

Value filter_attr(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("attr", arguments, {"name"}, 1);
  const std::string name = bound.get_text(0, "");
  if (input.is_undefined()) fail(input.undefined_message());
  if (input.is(Kind::kLoop)) {
    if (auto found = input.as_loop().attribute(interpreter.budget(), input, name)) return *found;
  } else if (auto found = find_method(input, name)) {
    return *found;
  }
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", input.type_name(), name));
}

struct NamedFilter {
  std::string_view name;
  Filter filter;
};

constexpr NamedFilter kFilters[] = {
    {"abs", filter_abs},
    {"attr", filter_attr},
    {"capitalize", filter_convert<capitalize>},
    {"center", filter_center},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"float", filter_float},
    {"forceescape", filter_force_escape},
    {"format", filter_format},
    {"indent", filter_indent},
    {"int", filter_int},
    {"items", filter_items},
    {"length", filter_length},
    {"list", filter_list},
    {"lower", filter_convert<to_lower>},
    {"replace", filter_replace},
    {"round", filter_round},
    {"safe", filter_safe},
    {"string", filter_string},
    {"title", filter_title},
    {"tojson", filter_to_json},
    {"trim", filter_trim},
    {"truncate", filter_truncate},
    {"upper", filter_convert<to_upper>},
    {"wordcount", filter_word_count},
};

}  // namespace

Filter find_filter(std::string_view name) {
  for (const NamedFilter& entry : kFilters)
    if (entry.name == name) return entry.filter;
  return find_sequence_filter(name);
}

}  // namespace kvasir::text::jinja

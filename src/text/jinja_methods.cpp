// Attributes of Python's types that templates use: methods of str, list, tuple and dict.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

using Method = Value (*)(Interpreter&, const Value& self, const Arguments&);

struct NamedMethod {
  std::string_view name;
  Method call;
};

// ---- str ----

Value same_kind(Interpreter& interpreter, const Value& self, std::string text) {
  return make_string(interpreter.budget(), std::move(text), self.is_markup());
}

Value pieces(Interpreter& interpreter, const Value& self,
             const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) {
    interpreter.budget().charge(part.size() + sizeof(Value));
    items.push_back(Value::string(std::string(part), self.is_markup()));
  }
  return Value::list(std::move(items));
}

// What stands beside a markup string is escaped, as markupsafe does.
std::string beside(const Value& self, std::string text, const Value& value) {
  return self.is_markup() && !value.is_markup() ? escape_html(text) : text;
}

template <Side side>
Value str_strip(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("strip()", arguments, {"chars"});
  const std::string& text = self.as_string();
  if (!bound.has(0) || bound[0].is_none())
    return same_kind(interpreter, self, std::string(strip(text, side)));
  const std::string characters = bound.get_text(0, "");
  return same_kind(interpreter, self, std::string(strip(text, side, characters)));
}

template <bool from_right>
Value str_split(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("split()", arguments, {"sep", "maxsplit"});
  const int64_t count = bound.get_int(1, -1);
  const std::string& text = self.as_string();
  interpreter.budget().charge(text.size());
  if (!bound.has(0) || bound[0].is_none())
    return pieces(interpreter, self,
                  from_right ? rsplit_space(text, count) : split_space(text, count));
  const std::string separator = bound.get_text(0, "");
  if (separator.empty()) fail("split(): empty separator");
  return pieces(interpreter, self,
                from_right ? rsplit_on(text, separator, count) : split_on(text, separator, count));
}

Value str_splitlines(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("splitlines()", arguments, {"keepends"});
  return pieces(interpreter, self, split_lines(self.as_string(), bound.get_bool(0, false)));
}

template <bool from_right>
Value str_partition(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("partition()", arguments, {"sep"}, 1);
  const std::string separator = bound.get_text(0, "");
  if (separator.empty()) fail("partition(): empty separator");
  const std::string_view text = self.as_string();
  interpreter.budget().charge(text.size());
  const size_t at = from_right ? rfind_text(text, separator) : find_text(text, separator);
  std::array<std::string_view, 3> parts = {text, "", ""};
  if (at != std::string_view::npos)
    parts = {text.substr(0, at), text.substr(at, separator.size()),
             text.substr(at + separator.size())};
  else if (from_right)
    parts = {"", "", text};
  std::vector<Value> items;
  for (const std::string_view part : parts)
    items.push_back(same_kind(interpreter, self, std::string(part)));
  return Value::tuple(std::move(items));
}

// The part of a string that optional start and end positions in characters leave.
std::optional<std::string_view> window(const Value& self, const Bound& bound, size_t index,
                                       int64_t* start_character) {
  const std::string_view text = self.as_string();
  const auto given = [&](size_t i) { return bound.has(i) && !bound[i].is_none(); };
  *start_character = 0;
  if (!given(index) && !given(index + 1)) return text;
  const auto size = static_cast<int64_t>(count_chars(text));
  const auto place = [&](size_t i, int64_t missing) {
    if (!given(i)) return missing;
    const int64_t at = bound.get_int(i, 0);
    return at < 0 ? std::max<int64_t>(at + size, 0) : at;
  };
  const int64_t start = place(index, 0);
  const int64_t end = std::min(place(index + 1, size), size);
  if (start > size || start > end) return std::nullopt;
  *start_character = start;
  size_t at = 0, from = 0;
  for (int64_t i = 0; i < end; ++i) {
    if (i == start) from = at;
    next_char(text, &at);
  }
  if (start >= end) from = at;
  return text.substr(from, at - from);
}

template <bool at_end>
Value str_affix(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const std::string_view name = at_end ? "endswith()" : "startswith()";
  const Bound bound(name, arguments, {"prefix", "start", "end"}, 1);
  int64_t start = 0;
  const auto text = window(self, bound, 1, &start);
  const auto matches = [&](const Value& affix) {
    if (affix.is_undefined()) fail(affix.undefined_message());
    if (!affix.is_string())
      fail(fmt::format("{}: expected a string or a tuple of strings, found '{}'", name,
                       affix.type_name()));
    interpreter.budget().step();
    return text &&
           (at_end ? text->ends_with(affix.as_string()) : text->starts_with(affix.as_string()));
  };
  if (!bound[0].is_tuple()) return Value::boolean(matches(bound[0]));
  for (const Value& affix : bound[0].as_sequence().items)
    if (matches(affix)) return Value::boolean(true);
  return Value::boolean(false);
}

template <bool from_right, bool must_find>
Value str_find(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("find()", arguments, {"sub", "start", "end"}, 1);
  const std::string needle = bound.get_text(0, "");
  int64_t start = 0;
  const auto text = window(self, bound, 1, &start);
  interpreter.budget().charge(self.as_string().size());
  size_t at = std::string_view::npos;
  if (text) at = from_right ? rfind_text(*text, needle) : find_text(*text, needle);
  if (at != std::string_view::npos)
    return Value::integer(start + static_cast<int64_t>(count_chars(text->substr(0, at))));
  if (must_find) fail("index(): substring not found");
  return Value::integer(-1);
}

Value str_count(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("count()", arguments, {"sub", "start", "end"}, 1);
  const std::string needle = bound.get_text(0, "");
  int64_t start = 0;
  const auto text = window(self, bound, 1, &start);
  interpreter.budget().charge(self.as_string().size());
  return Value::integer(text ? static_cast<int64_t>(count_text(*text, needle)) : 0);
}

Value str_replace(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("replace()", arguments, {"old", "new", "count"}, 2);
  const std::string from = bound.get_text(0, ""),
                    to = beside(self, bound.get_text(1, ""), bound[1]);
  const std::string& text = self.as_string();
  interpreter.budget().charge(text.size());
  const uint64_t hits = count_text(text, from);
  uint64_t grown = 0;
  if (__builtin_mul_overflow(hits, to.size(), &grown)) grown = UINT64_MAX / 2;
  interpreter.budget().charge(text.size() + grown);
  return same_kind(interpreter, self, replace_all(text, from, to, bound.get_int(2, -1)));
}

Value str_join(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("join()", arguments, {"iterable"}, 1);
  std::string text;
  Cursor cursor(bound[0]);
  Value item;
  for (bool is_first = true; cursor.next(&item); is_first = false) {
    if (item.is_undefined()) fail(item.undefined_message());
    if (!item.is_string())
      fail(fmt::format("join(): expected strings, found '{}'", item.type_name()));
    interpreter.budget().charge(self.as_string().size() + item.as_string().size() + 1);
    if (!is_first) text += self.as_string();
    text += beside(self, item.as_string(), item);
  }
  return same_kind(interpreter, self, std::move(text));
}

template <std::string (*convert)(std::string_view)>
Value str_convert(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("this method", arguments, {});
  return same_kind(interpreter, self, convert(self.as_string()));
}

template <bool at_end>
Value str_remove(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound(at_end ? "removesuffix()" : "removeprefix()", arguments, {"affix"}, 1);
  const std::string affix = bound.get_text(0, "");
  std::string_view text = self.as_string();
  if (at_end ? text.ends_with(affix) : text.starts_with(affix)) {
    if (at_end)
      text.remove_suffix(affix.size());
    else
      text.remove_prefix(affix.size());
  }
  return same_kind(interpreter, self, std::string(text));
}

// True for texts with a character, all of which pass.
template <bool (*test)(char32_t)>
Value str_all(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("this method", arguments, {});
  const std::string& text = self.as_string();
  for (size_t at = 0; at < text.size();)
    if (!test(next_char(text, &at))) return Value::boolean(false);
  return Value::boolean(!text.empty());
}

bool is_alphanumeric(char32_t c) { return is_word(c) && c != U'_' && (c < 0x80 || !is_mark(c)); }

template <bool upper>
Value str_is_case(Interpreter&, const Value& self, const Arguments& arguments) {
  const Bound bound("this method", arguments, {});
  return Value::boolean(upper ? is_upper_text(self.as_string()) : is_lower_text(self.as_string()));
}

enum class Align { kLeft, kRight, kCenter };

template <Align align>
Value str_align(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("this method", arguments, {"width", "fillchar"}, 1);
  const std::string fill = bound.get_text(1, " ");
  if (count_chars(fill) != 1) fail("the fill character must be exactly one character long");
  const std::string& text = self.as_string();
  const auto size = static_cast<int64_t>(count_chars(text));
  const int64_t padding = std::max<int64_t>(bound.get_int(0, 0) - size, 0);
  interpreter.budget().charge(static_cast<uint64_t>(padding) * fill.size());
  const int64_t width = size + padding;
  const int64_t left = align == Align::kLeft    ? 0
                       : align == Align::kRight ? padding
                                                : padding / 2 + (padding & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < padding; ++i) out += fill;
  return same_kind(interpreter, self, std::move(out));
}

Value str_zfill(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("zfill()", arguments, {"width"}, 1);
  const std::string& text = self.as_string();
  const int64_t padding =
      std::max<int64_t>(bound.get_int(0, 0) - static_cast<int64_t>(count_chars(text)), 0);
  interpreter.budget().charge(static_cast<uint64_t>(padding));
  const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  return same_kind(
      interpreter, self,
      text.substr(0, sign) + std::string(static_cast<size_t>(padding), '0') + text.substr(sign));
}

constexpr NamedMethod kStringMethods[] = {
    {"strip", str_strip<Side::kBoth>},
    {"lstrip", str_strip<Side::kLeft>},
    {"rstrip", str_strip<Side::kRight>},
    {"split", str_split<false>},
    {"rsplit", str_split<true>},
    {"splitlines", str_splitlines},
    {"partition", str_partition<false>},
    {"rpartition", str_partition<true>},
    {"startswith", str_affix<false>},
    {"endswith", str_affix<true>},
    {"find", str_find<false, false>},
    {"rfind", str_find<true, false>},
    {"index", str_find<false, true>},
    {"rindex", str_find<true, true>},
    {"count", str_count},
    {"replace", str_replace},
    {"join", str_join},
    {"upper", str_convert<to_upper>},
    {"lower", str_convert<to_lower>},
    {"casefold", str_convert<to_lower>},
    {"title", str_convert<title>},
    {"capitalize", str_convert<capitalize>},
    {"swapcase", str_convert<swap_case>},
    {"removeprefix", str_remove<false>},
    {"removesuffix", str_remove<true>},
    {"isspace", str_all<is_space>},
    {"isalpha", str_all<is_alphabetic>},
    {"isdigit", str_all<is_digit>},
    {"isdecimal", str_all<is_digit>},
    {"isnumeric", str_all<is_digit>},
    {"isalnum", str_all<is_alphanumeric>},
    {"isupper", str_is_case<true>},
    {"islower", str_is_case<false>},
    {"ljust", str_align<Align::kLeft>},
    {"rjust", str_align<Align::kRight>},
    {"center", str_align<Align::kCenter>},
    {"zfill", str_zfill},
};

constexpr std::string_view kOtherStringMethods[] = {
    "encode",       "expandtabs",  "format",  "format_map", "isascii",
    "isidentifier", "isprintable", "istitle", "maketrans",  "translate",
};

// ---- list, tuple ----

Value sequence_index(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("index()", arguments, {"value", "start", "stop"}, 1);
  const auto& items = self.as_sequence().items;
  const auto size = static_cast<int64_t>(items.size());
  const auto place = [&](size_t index, int64_t missing) {
    const int64_t at = bound.get_int(index, missing);
    return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
  };
  for (int64_t i = place(1, 0); i < place(2, size); ++i)
    if (equal(interpreter.budget(), items[static_cast<size_t>(i)], bound[0]))
      return Value::integer(i);
  fail("index(): the value is not in the list");
}

Value sequence_count(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("count()", arguments, {"value"}, 1);
  int64_t count = 0;
  for (const Value& item : self.as_sequence().items)
    count += equal(interpreter.budget(), item, bound[0]) ? 1 : 0;
  return Value::integer(count);
}

Value list_copy(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("copy()", arguments, {});
  return make_list(interpreter.budget(), self.as_sequence().items);
}

constexpr NamedMethod kSequenceMethods[] = {{"index", sequence_index}, {"count", sequence_count}};
constexpr NamedMethod kListMethods[] = {{"copy", list_copy}};
constexpr std::string_view kListChanges[] = {"append", "clear", "pop",    "reverse",
                                             "insert", "sort",  "extend", "remove"};

// ---- dict ----

template <SequenceType type>
Value dict_view(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("this method", arguments, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.as_dict().entries()) {
    interpreter.budget().charge(3 * sizeof(Value));
    items.push_back(type == SequenceType::kDictKeys     ? key
                    : type == SequenceType::kDictValues ? value
                                                        : Value::tuple({key, value}));
  }
  return Value::sequence(type, std::move(items));
}

Value dict_get(Interpreter&, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) fail("get() takes no keyword arguments");
  const Bound bound("get()", arguments, {"key", "default"}, 1);
  const Value* found = self.as_dict().find(bound[0]);
  return found != nullptr ? *found : bound.get(1, Value::none());
}

Value dict_copy(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  const Bound bound("copy()", arguments, {});
  interpreter.budget().charge(self.as_dict().size() * 3 * sizeof(Value));
  return Value::dict(self.as_dict());
}

constexpr NamedMethod kDictMethods[] = {
    {"items", dict_view<SequenceType::kDictItems>},
    {"keys", dict_view<SequenceType::kDictKeys>},
    {"values", dict_view<SequenceType::kDictValues>},
    {"get", dict_get},
    {"copy", dict_copy},
};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};

// ---- lookup ----

template <size_t count>
std::optional<Value> bind(const NamedMethod (&methods)[count], const Value& self,
                          std::string_view name) {
  for (const NamedMethod& method : methods) {
    if (method.name != name) continue;
    FunctionObject function;
    function.name = std::string(name);
    function.depth = self.depth();
    function.call = [self, call = method.call](Interpreter& interpreter,
                                               const Arguments& arguments) {
      charge_scan(interpreter.budget(), self);
      return call(interpreter, self, arguments);
    };
    return Value::function(std::move(function));
  }
  return std::nullopt;
}

template <size_t count>
bool is_among(const std::string_view (&names)[count], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Value unsafe(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe", name, object.type_name()));
}

}  // namespace

std::optional<Value> find_method(const Value& object, std::string_view name) {
  if (name.size() > 4 && name.starts_with("__") && name.ends_with("__"))
    return unsafe(object, name);
  switch (object.kind()) {
    case Kind::kString:
      if (is_among(kOtherStringMethods, name))
        throw Failure{ErrorCode::kUnsupported,
                      fmt::format("the string method '{}' is not offered", name)};
      return bind(kStringMethods, object, name);
    case Kind::kSequence:
      if (object.as_sequence().type > SequenceType::kRange) return std::nullopt;
      if (object.is_list()) {
        if (is_among(kListChanges, name)) return unsafe(object, name);
        if (auto found = bind(kListMethods, object, name)) return found;
      }
      return bind(kSequenceMethods, object, name);
    case Kind::kDict:
      if (is_among(kDictChanges, name)) return unsafe(object, name);
      return bind(kDictMethods, object, name);
    case Kind::kNamespace:
      if (const Value* found = object.as_namespace().attributes.find(name)) return *found;
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace kvasir::text::jinja

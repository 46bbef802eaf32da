// Jinja's tests (`is`) and global functions, with those that chat templates are given besides.

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

// ---- tests ----

void check_no_arguments(const Arguments& arguments) {
  const Bound bound("this test", arguments, {});
}

template <bool (*holds)(const Value&)>
bool test_type(Interpreter&, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return holds(input);
}

bool is_sequence(const Value& value) {
  if (value.is(Kind::kSequence)) return value.as_sequence().type <= SequenceType::kRange;
  return value.is_string() || value.is(Kind::kDict) || value.is_undefined();
}

bool is_callable(const Value& value) {
  return value.is(Kind::kFunction) || value.is(Kind::kLoop) || value.is_undefined();
}

bool is_true(const Value& value) { return value.is(Kind::kBool) && value.as_bool(); }
bool is_false(const Value& value) { return value.is(Kind::kBool) && !value.as_bool(); }

template <Kind kind>
bool is_kind(const Value& value) {
  return value.is(kind);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_markup(const Value& value) { return value.is_markup(); }

bool has_remainder(Interpreter& interpreter, const Value& input, const Value& divisor,
                   int64_t remainder) {
  Budget& budget = interpreter.budget();
  return equal(budget, binary(budget, "%", input, divisor), Value::integer(remainder));
}

bool test_even(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return has_remainder(interpreter, input, Value::integer(2), 0);
}

bool test_odd(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return has_remainder(interpreter, input, Value::integer(2), 1);
}

bool test_divisible(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("divisibleby", arguments, {"num"}, 1);
  return has_remainder(interpreter, input, bound[0], 0);
}

bool test_same(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("sameas", arguments, {"other"}, 1);
  return input.same_as(bound[0]);
}

bool test_in(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("in", arguments, {"seq"}, 1);
  return contains(interpreter.budget(), bound[0], input);
}

enum class Order { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual };

template <Order order>
bool test_order(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  constexpr std::string_view kSymbols[] = {"==", "!=", "<", "<=", ">", ">="};
  const std::string_view symbol = kSymbols[static_cast<int>(order)];
  const Bound bound(symbol, arguments, {"other"}, 1);
  return compare(interpreter.budget(), symbol, input, bound[0]);
}

bool test_lower(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return is_lower_text(to_text(interpreter.budget(), input));
}

bool test_upper(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return is_upper_text(to_text(interpreter.budget(), input));
}

bool test_filter(Interpreter&, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return input.is_string() && find_filter(input.as_string()) != nullptr;
}

bool test_test(Interpreter&, const Value& input, const Arguments& arguments) {
  check_no_arguments(arguments);
  return input.is_string() && find_test(input.as_string()) != nullptr;
}

struct NamedTest {
  std::string_view name;
  Test test;
};

constexpr NamedTest kTests[] = {
    {"boolean", test_type<is_kind<Kind::kBool>>},
    {"callable", test_type<is_callable>},
    {"defined", test_type<is_defined>},
    {"divisibleby", test_divisible},
    {"escaped", test_type<is_markup>},
    {"even", test_even},
    {"false", test_type<is_false>},
    {"filter", test_filter},
    {"float", test_type<is_kind<Kind::kFloat>>},
    {"in", test_in},
    {"integer", test_type<is_kind<Kind::kInt>>},
    {"iterable", test_type<is_iterable>},
    {"lower", test_lower},
    {"mapping", test_type<is_kind<Kind::kDict>>},
    {"none", test_type<is_kind<Kind::kNone>>},
    {"number", test_type<is_number>},
    {"odd", test_odd},
    {"sameas", test_same},
    {"sequence", test_type<is_sequence>},
    {"string", test_type<is_kind<Kind::kString>>},
    {"test", test_test},
    {"true", test_type<is_true>},
    {"undefined", test_type<is_kind<Kind::kUndefined>>},
    {"upper", test_upper},
    {"==", test_order<Order::kEqual>},
    {"eq", test_order<Order::kEqual>},
    {"equalto", test_order<Order::kEqual>},
    {"!=", test_order<Order::kNotEqual>},
    {"ne", test_order<Order::kNotEqual>},
    {"<", test_order<Order::kLess>},
    {"lt", test_order<Order::kLess>},
    {"lessthan", test_order<Order::kLess>},
    {"<=", test_order<Order::kLessEqual>},
    {"le", test_order<Order::kLessEqual>},
    {">", test_order<Order::kGreater>},
    {"gt", test_order<Order::kGreater>},
    {"greaterthan", test_order<Order::kGreater>},
    {">=", test_order<Order::kGreaterEqual>},
    {"ge", test_order<Order::kGreaterEqual>},
};

// ---- globals ----

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox

Value make_range(Interpreter& interpreter, const Arguments& arguments) {
  if (!arguments.named.empty()) fail("range() takes no keyword arguments");
  const Bound bound("range()", arguments, {"start", "stop", "step"}, 1);
  const bool one = arguments.positional.size() == 1;
  const int64_t start = one ? 0 : bound.get_int(0, 0);
  const int64_t stop = one ? bound.get_int(0, 0) : bound.get_int(1, 0);
  const int64_t step = bound.get_int(2, 1);
  if (step == 0) fail("range() step must not be zero");
  std::vector<Value> items;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<int64_t>(items.size()) >= kMaxRange)
      throw Failure{ErrorCode::kResourceExhausted,
                    fmt::format("expected a range of at most {} numbers, found more", kMaxRange)};
    items.push_back(Value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  interpreter.budget().charge(items.size() * sizeof(Value));
  return Value::sequence(SequenceType::kRange, std::move(items),
                         step == 1 ? fmt::format("range({}, {})", start, stop)
                                   : fmt::format("range({}, {}, {})", start, stop, step));
}

// dict(mapping or pairs, **named)
DictObject collect(Interpreter& interpreter, const Arguments& arguments) {
  if (arguments.positional.size() > 1)
    fail(fmt::format("expected at most one positional argument, found {}",
                     arguments.positional.size()));
  DictObject content;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is(Kind::kDict)) {
      interpreter.budget().charge(source.as_dict().size() * 4 * sizeof(Value));
      content = source.as_dict();
    } else {
      for (const Value& pair : to_vector(interpreter.budget(), source)) {
        const std::vector<Value> parts = to_vector(interpreter.budget(), pair);
        if (parts.size() != 2)
          fail(fmt::format("expected pairs to make a dict of, found {} values", parts.size()));
        charge_scan(interpreter.budget(), parts[0]);
        content.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) content.set(Value::string(name), value);
  return content;
}

Value make_dict(Interpreter& interpreter, const Arguments& arguments) {
  return Value::dict(collect(interpreter, arguments));
}

Value make_namespace(Interpreter& interpreter, const Arguments& arguments) {
  DictObject attributes = collect(interpreter, arguments);
  for (const auto& [key, value] : attributes.entries())
    if (key.is_string() && key.as_string().starts_with('_'))
      fail(fmt::format("attributes of a namespace cannot start with '_', found '{}'",
                       key.as_string()));
  return interpreter.adopt_namespace(std::move(attributes));
}

Value raise_exception(Interpreter& interpreter, const Arguments& arguments) {
  const Bound bound("raise_exception()", arguments, {"message"}, 1);
  throw Failure{ErrorCode::kInvalidArgument, to_text(interpreter.budget(), bound[0])};
}

Value strftime_now(Interpreter& interpreter, const Arguments& arguments) {
  const Bound bound("strftime_now()", arguments, {"format"}, 1);
  // The mark tells an empty result from one that does not fit.
  const std::string format = bound.get_text(0, "") + "|";
  if (format.find('\0') != std::string::npos) fail("strftime_now(): embedded null character");
  const std::tm now = interpreter.clock()();
  std::string text(1 << 16, '\0');
  interpreter.budget().charge(text.size());
  const size_t size = std::strftime(text.data(), text.size(), format.c_str(), &now);
  if (size == 0) fail("strftime_now(): the result is too long");
  text.resize(size - 1);
  return Value::string(std::move(text));
}

Value make_joiner(Interpreter&, const Arguments& arguments) {
  const Bound bound("joiner()", arguments, {"sep"});
  FunctionObject function;
  function.name = "joiner";
  const Value separator = bound.get(0, Value::string(", "));
  function.depth = separator.depth();
  function.call = [separator, used = std::make_shared<bool>(false)](Interpreter&,
                                                                    const Arguments&) {
    return std::exchange(*used, true) ? separator : Value::string("");
  };
  return Value::function(std::move(function));
}

struct NamedGlobal {
  std::string_view name;
  Value (*call)(Interpreter&, const Arguments&);
};

constexpr NamedGlobal kGlobals[] = {
    {"range", make_range},          {"dict", make_dict},
    {"namespace", make_namespace},  {"raise_exception", raise_exception},
    {"strftime_now", strftime_now}, {"joiner", make_joiner},
};

}  // namespace

Test find_test(std::string_view name) {
  for (const NamedTest& entry : kTests)
    if (entry.name == name) return entry.test;
  return nullptr;
}

std::optional<Value> find_global(std::string_view name) {
  for (const NamedGlobal& entry : kGlobals) {
    if (entry.name != name) continue;
    FunctionObject function;
    function.name = std::string(name);
    function.call = entry.call;
    return Value::function(std::move(function));
  }
  if (name == "cycler" || name == "lipsum")
    throw Failure{ErrorCode::kUnsupported,
                  fmt::format("the function '{}' is not offered in chat templates", name)};
  return std::nullopt;
}

}  // namespace kvasir::text::jinja

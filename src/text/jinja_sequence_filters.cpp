// Jinja's filters over sequences and mappings.

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "text/jinja_filter_tools.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

// ---- keys: "name", "inner.0.name", 3 ----

using Path = std::vector<Value>;

Path parse_path(const Value& attribute) {
  if (attribute.is_none()) return {};
  if (!attribute.is_string()) return {attribute};
  Path path;
  for (const std::string_view part : split_on(attribute.as_string(), ".", -1)) {
    const bool is_number = !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
      return c >= '0' && c <= '9';
    });
    const auto number = is_number ? parse_int(part) : std::nullopt;
    path.push_back(number ? Value::integer(*number) : Value::string(std::string(part)));
  }
  return path;
}

std::vector<Path> parse_paths(const Value& attribute) {
  if (!attribute.is_string()) return {parse_path(attribute)};
  std::vector<Path> paths;
  for (const std::string_view part : split_on(attribute.as_string(), ",", -1))
    paths.push_back(parse_path(Value::string(std::string(part))));
  return paths;
}

Value follow(Budget& budget, Value item, const Path& path, const Value& default_value) {
  for (const Value& part : path) {
    budget.step();
    item = get_item(budget, item, part);
    if (item.is_undefined() && !default_value.is_none()) item = default_value;
  }
  return item;
}

Value fold_case(Budget& budget, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return make_string(budget, to_lower(value.as_string()));
}

// ---- order ----

struct Keyed {
  Value key, item;
};

void sort_keyed(Budget& budget, std::vector<Keyed>* items, bool reverse) {
  if (reverse) std::reverse(items->begin(), items->end());
  std::stable_sort(items->begin(), items->end(), [&](const Keyed& left, const Keyed& right) {
    return less(budget, left.key, right.key);
  });
  if (reverse) std::reverse(items->begin(), items->end());
}

Value items_of(std::vector<Keyed> keyed) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return Value::list(std::move(items));
}

Value filter_sort(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  Budget& budget = interpreter.budget();
  const auto paths = parse_paths(bound.get(2, Value::none()));
  const bool case_sensitive = bound.get_bool(1, false);
  std::vector<Keyed> keyed;
  for (const Value& item : to_vector(budget, input)) {
    std::vector<Value> keys;
    for (const Path& path : paths)
      keys.push_back(fold_case(budget, follow(budget, item, path, Value::none()), case_sensitive));
    keyed.push_back({Value::list(std::move(keys)), item});
  }
  sort_keyed(budget, &keyed, bound.get_bool(0, false));
  return items_of(std::move(keyed));
}

Value filter_dict_sort(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  Budget& budget = interpreter.budget();
  const std::string by = bound.get_text(1, "key");
  if (by != "key" && by != "value") fail("dictsort: expected by='key' or by='value'");
  if (input.is_undefined()) fail(input.undefined_message());
  if (!input.is(Kind::kDict))
    fail(fmt::format("dictsort: expected a mapping, found '{}'", input.type_name()));
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.as_dict().entries()) {
    budget.charge(4 * sizeof(Value));
    keyed.push_back({fold_case(budget, by == "key" ? key : value, bound.get_bool(0, false)),
                     Value::tuple({key, value})});
  }
  sort_keyed(budget, &keyed, bound.get_bool(2, false));
  return items_of(std::move(keyed));
}

Value filter_group_by(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  Budget& budget = interpreter.budget();
  const Path path = parse_path(bound[0]);
  const Value missing = bound.get(1, Value::none());
  const bool case_sensitive = bound.get_bool(2, false);
  std::vector<Keyed> keyed;
  for (const Value& item : to_vector(budget, input))
    keyed.push_back({fold_case(budget, follow(budget, item, path, missing), case_sensitive), item});
  sort_keyed(budget, &keyed, false);
  std::vector<Value> groups;
  for (size_t i = 0; i < keyed.size();) {
    std::vector<Value> members;
    const size_t first = i;
    for (; i < keyed.size() && equal(budget, keyed[i].key, keyed[first].key); ++i)
      members.push_back(keyed[i].item);
    if (i == first) members.push_back(keyed[i++].item);  // NaN equals nothing
    const Value key = follow(budget, members.front(), path, missing);
    groups.push_back(Value::tuple({key, Value::list(std::move(members))}));
  }
  return Value::list(std::move(groups));
}

template <bool greatest>
Value filter_extreme(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound(greatest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  Budget& budget = interpreter.budget();
  const Path path = parse_path(bound.get(1, Value::none()));
  Cursor cursor(input);
  Value item;
  std::optional<Keyed> best;
  while (cursor.next(&item)) {
    Keyed next{
        fold_case(budget, follow(budget, item, path, Value::none()), bound.get_bool(0, false)),
        item};
    if (!best || (greatest ? less(budget, best->key, next.key) : less(budget, next.key, best->key)))
      best = std::move(next);
  }
  return best ? best->item : Value::undefined("no aggregated item, the sequence was empty");
}

// ---- whole sequences ----

Value filter_join(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  Budget& budget = interpreter.budget();
  const std::string separator = bound.has(0) ? to_text(budget, bound[0]) : "";
  const Path path = parse_path(bound.get(1, Value::none()));
  Cursor cursor(input);
  std::string text;
  Value item;
  for (bool is_first = true; cursor.next(&item); is_first = false) {
    budget.step();
    if (!is_first) {
      budget.charge(separator.size());
      text += separator;
    }
    text += to_text(budget, follow(budget, item, path, Value::none()));
    if (text.size() > budget.limits().max_output_bytes) budget.charge(text.size());
  }
  return make_string(budget, std::move(text));
}

Value filter_first(Interpreter&, const Value& input, const Arguments& arguments) {
  const Bound bound("first", arguments, {});
  Value item;
  if (Cursor(input).next(&item)) return item;
  return Value::undefined("no first item, the sequence was empty");
}

Value filter_last(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("last", arguments, {});
  if (input.is(Kind::kIterator)) fail("last: 'generator' object is not reversible; use |list");
  const std::vector<Value> items = to_vector(interpreter.budget(), input);
  return items.empty() ? Value::undefined("no last item, the sequence was empty") : items.back();
}

// The items that `make` gives when the first is asked for: Python's generators fail no sooner.
Value iterate_over(int depth, std::function<std::vector<Value>()> make) {
  auto items = std::make_shared<std::optional<std::vector<Value>>>();
  return Value::iterator(depth,
                         [items, make = std::move(make), at = size_t{0}](Value* item) mutable {
                           if (!*items) *items = make();
                           if (at >= (*items)->size()) return false;
                           *item = (**items)[at++];
                           return true;
                         });
}

int depth_of(const Value& input, const Arguments& arguments) {
  int depth = input.depth();
  for (const Value& value : arguments.positional) depth = std::max(depth, value.depth());
  for (const auto& [name, value] : arguments.named) depth = std::max(depth, value.depth());
  return depth;
}

Value filter_reverse(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  Budget& budget = interpreter.budget();
  if (input.is_string())
    return get_slice(budget, input, Value::none(), Value::none(), Value::integer(-1));
  std::vector<Value> items = to_vector(budget, input);
  std::reverse(items.begin(), items.end());
  if (input.is(Kind::kIterator)) return Value::list(std::move(items));
  return iterate_over(input.depth(), [items] { return items; });
}

Value filter_sum(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  Budget& budget = interpreter.budget();
  const Path path = parse_path(bound.get(0, Value::none()));
  Value total = bound.get(1, Value::integer(0));
  if (total.is_string()) fail("sum: cannot sum strings; use join");
  Cursor cursor(input);
  Value item;
  while (cursor.next(&item))
    total = binary(budget, "+", total, follow(budget, item, path, Value::none()));
  return total;
}

std::vector<Value> unique_items(Budget& budget, const Value& input, const Bound& bound) {
  const Path path = parse_path(bound.get(1, Value::none()));
  DictObject seen;
  std::vector<Value> items;
  for (const Value& item : to_vector(budget, input)) {
    const Value key =
        fold_case(budget, follow(budget, item, path, Value::none()), bound.get_bool(0, false));
    charge_scan(budget, key);
    if (seen.find(key) != nullptr) continue;
    seen.set(key, Value::none());
    items.push_back(item);
  }
  return items;
}

Value filter_unique(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return iterate_over(depth_of(input, arguments), [&interpreter, input, arguments] {
    return unique_items(interpreter.budget(), input,
                        Bound("unique", arguments, {"case_sensitive", "attribute"}));
  });
}

std::vector<Value> batch_rows(Budget& budget, const Value& input, const Bound& bound) {
  const int64_t size = bound.get_int(0, 1);
  std::vector<Value> rows, row;
  for (const Value& item : to_vector(budget, input)) {
    if (static_cast<int64_t>(row.size()) == size)
      rows.push_back(Value::list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (row.empty()) return rows;
  const Value fill = bound.get(1, Value::none());
  while (!fill.is_none() && static_cast<int64_t>(row.size()) < size) {
    budget.step();
    budget.charge(sizeof(Value));
    row.push_back(fill);
  }
  rows.push_back(Value::list(std::move(row)));
  return rows;
}

Value filter_batch(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  return iterate_over(depth_of(input, arguments) + 1, [&interpreter, input, arguments] {
    return batch_rows(interpreter.budget(), input,
                      Bound("batch", arguments, {"linecount", "fill_with"}, 1));
  });
}

// ---- element by element, as items are asked for ----

// Walks over a value from when the first item is asked for.
class LazyCursor {
 public:
  explicit LazyCursor(Value source) : source_(std::move(source)) {}
  bool next(Value* item) {
    if (!cursor_) cursor_.emplace(source_);
    return cursor_->next(item);
  }

 private:
  Value source_;
  std::optional<Cursor> cursor_;
};

Value empty_iterator() {
  return Value::iterator(0, [](Value*) { return false; });
}

Value filter_map(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  if (!input.truthy()) return empty_iterator();
  const int depth = depth_of(input, arguments);
  auto cursor = std::make_shared<LazyCursor>(input);
  if (arguments.positional.empty()) {
    const Bound bound("map", arguments, {"attribute", "default"});
    if (!bound.has(0)) fail("map: expected the name of a filter or attribute=...");
    return Value::iterator(depth, [&interpreter, cursor, path = parse_path(bound[0]),
                                   missing = bound.get(1, Value::none())](Value* item) {
      if (!cursor->next(item)) return false;
      *item = follow(interpreter.budget(), *item, path, missing);
      return true;
    });
  }
  if (!arguments.positional[0].is_string()) fail("map: expected the name of a filter");
  Arguments rest = arguments;
  const std::string name = rest.positional[0].as_string();
  rest.positional.erase(rest.positional.begin());
  return Value::iterator(depth, [&interpreter, cursor, name, rest](Value* item) {
    if (!cursor->next(item)) return false;
    *item = apply_filter(interpreter, name, *item, rest);
    return true;
  });
}

template <bool by_attribute, bool wanted>
Value filter_select(Interpreter& interpreter, const Value& input, const Arguments& arguments) {
  if (!input.truthy()) return empty_iterator();
  const int depth = depth_of(input, arguments);
  Arguments rest = arguments;
  Path path;
  if (by_attribute) {
    if (rest.positional.empty()) fail("expected the name of an attribute to select by");
    path = parse_path(rest.positional[0]);
    rest.positional.erase(rest.positional.begin());
  }
  std::string test;
  if (!rest.positional.empty()) {
    if (!rest.positional[0].is_string()) fail("expected the name of a test to select by");
    test = rest.positional[0].as_string();
    rest.positional.erase(rest.positional.begin());
  }
  auto cursor = std::make_shared<LazyCursor>(input);
  return Value::iterator(depth, [&interpreter, cursor, path, test, rest](Value* item) {
    while (cursor->next(item)) {
      interpreter.budget().step();
      const Value value = follow(interpreter.budget(), *item, path, Value::none());
      const bool holds = test.empty() ? value.truthy() : apply_test(interpreter, test, value, rest);
      if (holds == wanted) return true;
    }
    return false;
  });
}

struct NamedFilter {
  std::string_view name;
  Filter filter;
};

constexpr NamedFilter kFilters[] = {
    {"batch", filter_batch},
    {"dictsort", filter_dict_sort},
    {"first", filter_first},
    {"groupby", filter_group_by},
    {"join", filter_join},
    {"last", filter_last},
    {"map", filter_map},
    {"max", filter_extreme<true>},
    {"min", filter_extreme<false>},
    {"reject", filter_select<false, false>},
    {"rejectattr", filter_select<true, false>},
    {"reverse", filter_reverse},
    {"select", filter_select<false, true>},
    {"selectattr", filter_select<true, true>},
    {"sort", filter_sort},
    {"sum", filter_sum},
    {"unique", filter_unique},
};

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  for (const NamedFilter& entry : kFilters)
    if (entry.name == name) return entry.filter;
  return nullptr;
}

}  // namespace kvasir::text::jinja

#pragma once
// Python's operations on values: printing, comparing, arithmetic, subscripts, iteration, JSON.
// All fail by throwing Failure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace kvasir::text::jinja {

std::string to_text(Budget& budget, const Value& value);  // str()
std::string to_repr(Budget& budget, const Value& value);  // repr()

struct JsonOptions {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // of one level; nullopt: one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false;
};
std::string to_json(Budget& budget, const Value& value, const JsonOptions& options);

bool equal(Budget& budget, const Value& left, const Value& right);
bool less(Budget& budget, const Value& left, const Value& right);
bool contains(Budget& budget, const Value& container, const Value& item);
// One of == != < <= > >= in, not in.
bool compare(Budget& budget, std::string_view symbol, const Value& left, const Value& right);

// One of + - * / // % **.
Value binary(Budget& budget, std::string_view symbol, const Value& left, const Value& right);
Value negative(const Value& value);
Value positive(const Value& value);
// printf-style: "%s is %d" % arguments.
std::string format_percent(Budget& budget, std::string_view format, const Value& arguments);

// object[key] and object.name with Jinja's rules: what is not there is undefined.
Value get_item(Budget& budget, const Value& object, const Value& key);
Value get_attribute(Budget& budget, const Value& object, std::string_view name);
// object[start:stop:step]; none: left out.
Value get_slice(Budget& budget, const Value& object, const Value& start, const Value& stop,
                const Value& step);
// An attribute of the value's type: a bound method or a property. nullopt: there is none.
std::optional<Value> find_method(const Value& object, std::string_view name);

// len(); fails where Python has none.
int64_t length(const Value& value);
// Walks over a value as `for` does.
class Cursor {
 public:
  explicit Cursor(Value source);  // fails for what is not iterable
  bool next(Value* item);
  const Value& source() const { return source_; }

 private:
  Value source_;
  size_t at_ = 0;
};
bool is_iterable(const Value& value);
std::vector<Value> to_vector(Budget& budget, const Value& value);

// Before a value may be scanned, compared or hashed as a whole: charges a string's bytes.
void charge_scan(Budget& budget, const Value& value);
void charge_scan(Budget& budget, const Arguments& arguments);

// Text, charged to the budget.
Value make_string(Budget& budget, std::string text, bool is_markup = false);
Value make_list(Budget& budget, std::vector<Value> items);

// int() and float() of a string; nullopt where Python raises ValueError.
std::optional<int64_t> parse_int(std::string_view text, int64_t base = 10);
std::optional<double> parse_float(std::string_view text);

// Names arguments given by position or name. Fails for too many, unknown or missing ones.
class Bound {
 public:
  Bound(std::string_view callable, const Arguments& arguments,
        std::initializer_list<std::string_view> names, size_t required = 0);
  bool has(size_t index) const { return values_[index] != nullptr; }
  const Value& operator[](size_t index) const { return *values_[index]; }  // precondition: has
  Value get(size_t index, Value default_value) const {
    return has(index) ? *values_[index] : default_value;
  }
  int64_t get_int(size_t index, int64_t default_value) const;
  std::string get_text(size_t index, std::string default_value) const;
  bool get_bool(size_t index, bool default_value) const {
    return has(index) ? values_[index]->truthy() : default_value;
  }

 private:
  std::string callable_;
  std::vector<std::string> names_;
  std::vector<const Value*> values_;
};

}  // namespace kvasir::text::jinja

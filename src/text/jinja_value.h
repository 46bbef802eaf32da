#pragma once
// Values of the template language: Python's None, bool, int (64 bits), float, str, list, tuple,
// range, dict views, dict, and Jinja's undefined, namespace, generator, callable and loop.
//
// Values are cheap to copy and share immutable content, except namespaces, iterators and loops,
// which are references as in Python. Containers know how deep they nest and refuse to nest deeper
// than kMaxValueDepth, so that walks and destructors need bounded stack.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "kvasir/error.h"

namespace kvasir::text::jinja {

inline constexpr int kMaxValueDepth = 128;

// What is thrown inside the template engine; it becomes an Error with the place at its border.
struct Failure {
  ErrorCode code;
  std::string message;
};
// A failure of the template on these values: the TypeError, UndefinedError, ... of Python.
[[noreturn]] void fail(std::string message);

// What a rendering may use, so that every template ends.
struct Limits {
  uint64_t max_steps = 1'000'000;  // expressions, statements, loop rounds, elements visited
  uint64_t max_output_bytes = 64ull << 20;  // of the rendered text, and of any one string
  uint64_t max_work_bytes = 1ull << 30;     // sum of the sizes of all strings and containers built
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}
  void step(uint64_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.max_steps) fail_steps();
  }
  // Before `bytes` bytes of string or container are built or scanned.
  void charge(uint64_t bytes) {
    work_ += bytes;
    if (bytes > limits_.max_output_bytes || work_ > limits_.max_work_bytes) fail_work(bytes);
  }
  const Limits& limits() const { return limits_; }

 private:
  [[noreturn]] void fail_steps() const;
  [[noreturn]] void fail_work(uint64_t bytes) const;
  Limits limits_;
  uint64_t steps_ = 0, work_ = 0;
};

class Value;
class Interpreter;
class LoopObject;

enum class Kind {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kSequence,
  kDict,
  kNamespace,
  kIterator,
  kFunction,
  kLoop,
};

enum class SequenceType { kList, kTuple, kRange, kDictKeys, kDictValues, kDictItems };

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct UndefinedObject {
  std::string message;  // what an operation on it fails with
};

struct StringObject {
  std::string text;  // UTF-8
  bool is_markup = false;
};

struct SequenceObject;
class DictObject;
struct NamespaceObject;
struct IteratorObject;
struct FunctionObject;

class Value {
 public:
  Value() = default;  // undefined
  static Value undefined(std::string message);
  static Value none() { return Value(Data(std::in_place_index<1>)); }
  static Value boolean(bool value) { return Value(Data(std::in_place_index<2>, value)); }
  static Value integer(int64_t value) { return Value(Data(std::in_place_index<3>, value)); }
  static Value real(double value) { return Value(Data(std::in_place_index<4>, value)); }
  static Value string(std::string text, bool is_markup = false);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value sequence(SequenceType type, std::vector<Value> items, std::string repr = {});
  static Value dict(DictObject content);
  static Value name_space(std::shared_ptr<NamespaceObject> object);
  static Value iterator(int source_depth, std::function<bool(Value*)> next);
  static Value function(FunctionObject object);
  static Value loop(std::shared_ptr<LoopObject> object);
  static Value from_json(const nlohmann::ordered_json& json, int depth = 0);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_undefined() const { return is(Kind::kUndefined); }
  bool is_none() const { return is(Kind::kNone); }
  bool is_string() const { return is(Kind::kString); }
  bool is_markup() const { return is_string() && std::get<5>(data_)->is_markup; }
  bool is_list() const;  // exactly a list
  bool is_tuple() const;
  // int or bool, as Python's isinstance(value, int)
  bool is_integral() const { return is(Kind::kInt) || is(Kind::kBool); }
  bool is_number() const { return is_integral() || is(Kind::kFloat); }

  // Preconditions: the kind named.
  bool as_bool() const { return std::get<2>(data_); }
  int64_t as_int() const { return is(Kind::kBool) ? as_bool() : std::get<3>(data_); }
  double as_double() const {
    return is(Kind::kFloat) ? std::get<4>(data_) : static_cast<double>(as_int());
  }
  const std::string& as_string() const { return std::get<5>(data_)->text; }
  const SequenceObject& as_sequence() const { return *std::get<6>(data_); }
  const DictObject& as_dict() const { return *std::get<7>(data_); }
  NamespaceObject& as_namespace() const { return *std::get<8>(data_); }
  IteratorObject& as_iterator() const { return *std::get<9>(data_); }
  const FunctionObject& as_function() const { return *std::get<10>(data_); }
  LoopObject& as_loop() const { return *std::get<11>(data_); }

  bool truthy() const;
  // Same object, or equal immutable scalar: Python's `is`.
  bool same_as(const Value& other) const;
  // Python's type name, for messages.
  std::string_view type_name() const;
  // What fails with when used: "'x' is undefined". Precondition: undefined.
  std::string undefined_message() const;
  int depth() const;

 private:
  using Data =
      std::variant<std::shared_ptr<const UndefinedObject>, std::monostate, bool, int64_t, double,
                   std::shared_ptr<const StringObject>, std::shared_ptr<const SequenceObject>,
                   std::shared_ptr<const DictObject>, std::shared_ptr<NamespaceObject>,
                   std::shared_ptr<IteratorObject>, std::shared_ptr<const FunctionObject>,
                   std::shared_ptr<LoopObject>>;
  explicit Value(Data data) : data_(std::move(data)) {}
  Data data_;
};

struct SequenceObject {
  SequenceType type = SequenceType::kList;
  std::vector<Value> items;
  std::string repr;  // of a range
  int depth = 1;
};

// Insertion-ordered; keys are hashable values (1, 1.0 and True are one key, as in Python).
class DictObject {
 public:
  using Entry = std::pair<Value, Value>;
  const Value* find(const Value& key) const;  // fails for unhashable keys
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }
  void clear();

 private:
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;  // canonical key -> entry
  int depth_ = 1;
};

struct NamespaceObject {
  DictObject attributes;
};

struct IteratorObject {
  std::function<bool(Value*)> next;  // false at the end
  int depth = 1;
};

struct FunctionObject {
  std::string name;
  std::function<Value(Interpreter&, const Arguments&)> call;
  int depth = 1;  // of what the callable refers to
};

}  // namespace kvasir::text::jinja

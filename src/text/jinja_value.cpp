#include "text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "text/jinja_interpreter.h"

namespace kvasir::text::jinja {
namespace {

int checked_depth(int inner) {
  if (inner >= kMaxValueDepth)
    throw Failure{ErrorCode::kResourceExhausted,
                  fmt::format("values nest deeper than {} levels", kMaxValueDepth)};
  return inner + 1;
}

// One string per class of equal keys; equal Python keys give equal strings.
std::string canonical_key(const Value& key) {
  switch (key.kind()) {
    case Kind::kString:
      return "s" + key.as_string();
    case Kind::kBool:
    case Kind::kInt:
      return fmt::format("i{}", key.as_int());
    case Kind::kFloat: {
      const double number = key.as_double();
      if (number == std::floor(number) && std::abs(number) < 9.2e18)
        return fmt::format("i{}", static_cast<int64_t>(number));
      return fmt::format("f{}", number);
    }
    case Kind::kNone:
      return "n";
    case Kind::kUndefined:
      return "u";
    case Kind::kSequence:
      if (key.is_tuple()) {
        std::string text = "t";
        for (const Value& item : key.as_sequence().items) {
          const std::string part = canonical_key(item);
          text += fmt::format("{}:", part.size()) + part;
          if (text.size() > 65536)
            throw Failure{ErrorCode::kResourceExhausted, "a tuple used as dict key is too large"};
        }
        return text;
      }
      break;
    case Kind::kNamespace:
      return fmt::format("p{}", static_cast<const void*>(&key.as_namespace()));
    case Kind::kIterator:
      return fmt::format("p{}", static_cast<const void*>(&key.as_iterator()));
    case Kind::kFunction:
      return fmt::format("p{}", static_cast<const void*>(&key.as_function()));
    case Kind::kLoop:
      return fmt::format("p{}", static_cast<const void*>(&key.as_loop()));
    case Kind::kDict:
      break;
  }
  fail(fmt::format("unhashable type: '{}'", key.type_name()));
}

}  // namespace

void fail(std::string message) { throw Failure{ErrorCode::kMalformed, std::move(message)}; }

void Budget::fail_steps() const {
  throw Failure{ErrorCode::kResourceExhausted,
                fmt::format("the template did not end within {} steps", limits_.max_steps)};
}

void Budget::fail_work(uint64_t bytes) const {
  throw Failure{ErrorCode::kResourceExhausted,
                fmt::format("the template builds too much text: {} bytes at once (limit {}), {} in "
                            "all (limit {})",
                            bytes, limits_.max_output_bytes, work_, limits_.max_work_bytes)};
}

Value Value::undefined(std::string message) {
  return Value(Data(std::in_place_index<0>,
                    std::make_shared<const UndefinedObject>(UndefinedObject{std::move(message)})));
}

Value Value::string(std::string text, bool is_markup) {
  return Value(Data(std::in_place_index<5>, std::make_shared<const StringObject>(
                                                StringObject{std::move(text), is_markup})));
}

Value Value::sequence(SequenceType type, std::vector<Value> items, std::string repr) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  auto object = std::make_shared<SequenceObject>();
  object->type = type;
  object->items = std::move(items);
  object->repr = std::move(repr);
  object->depth = checked_depth(depth);
  return Value(Data(std::in_place_index<6>, std::move(object)));
}

Value Value::list(std::vector<Value> items) {
  return sequence(SequenceType::kList, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return sequence(SequenceType::kTuple, std::move(items));
}

Value Value::dict(DictObject content) {
  return Value(
      Data(std::in_place_index<7>, std::make_shared<const DictObject>(std::move(content))));
}

Value Value::name_space(std::shared_ptr<NamespaceObject> object) {
  return Value(Data(std::in_place_index<8>, std::move(object)));
}

Value Value::iterator(int source_depth, std::function<bool(Value*)> next) {
  auto object = std::make_shared<IteratorObject>();
  object->next = std::move(next);
  object->depth = checked_depth(source_depth);
  return Value(Data(std::in_place_index<9>, std::move(object)));
}

Value Value::function(FunctionObject object) {
  object.depth = checked_depth(object.depth);
  return Value(
      Data(std::in_place_index<10>, std::make_shared<const FunctionObject>(std::move(object))));
}

Value Value::loop(std::shared_ptr<LoopObject> object) {
  return Value(Data(std::in_place_index<11>, std::move(object)));
}

Value Value::from_json(const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > kMaxValueDepth) checked_depth(depth);
  switch (json.type()) {
    case Type::null:
    case Type::discarded:
      return none();
    case Type::boolean:
      return boolean(json.get<bool>());
    case Type::number_integer:
      return integer(json.get<int64_t>());
    case Type::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        throw Failure{ErrorCode::kUnsupported,
                      fmt::format("the integer {} does not fit 64 signed bits", number)};
      return integer(static_cast<int64_t>(number));
    }
    case Type::number_float:
      return real(json.get<double>());
    case Type::string:
      return string(json.get_ref<const std::string&>());
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return list(std::move(items));
    }
    case Type::object: {
      DictObject content;
      for (const auto& [key, item] : json.items())
        content.set(string(key), from_json(item, depth + 1));
      return dict(std::move(content));
    }
    case Type::binary:
      break;
  }
  throw Failure{ErrorCode::kUnsupported, "binary data cannot be given to a template"};
}

bool Value::is_list() const {
  return is(Kind::kSequence) && as_sequence().type == SequenceType::kList;
}

bool Value::is_tuple() const {
  return is(Kind::kSequence) && as_sequence().type == SequenceType::kTuple;
}

bool Value::truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return as_int() != 0;
    case Kind::kFloat:
      return as_double() != 0;
    case Kind::kString:
      return !as_string().empty();
    case Kind::kSequence:
      return !as_sequence().items.empty();
    case Kind::kDict:
      return as_dict().size() != 0;
    case Kind::kNamespace:
    case Kind::kIterator:
    case Kind::kFunction:
    case Kind::kLoop:
      return true;
  }
  return true;
}

bool Value::same_as(const Value& other) const {
  if (kind() != other.kind()) return false;
  if (is_string())
    return std::get<5>(data_) == std::get<5>(other.data_) || as_string() == other.as_string();
  if (is_undefined()) return true;
  return data_ == other.data_;
}

std::string_view Value::type_name() const {
  switch (kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return is_markup() ? "Markup" : "str";
    case Kind::kSequence:
      switch (as_sequence().type) {
        case SequenceType::kList:
          return "list";
        case SequenceType::kTuple:
          return "tuple";
        case SequenceType::kRange:
          return "range";
        case SequenceType::kDictKeys:
          return "dict_keys";
        case SequenceType::kDictValues:
          return "dict_values";
        case SequenceType::kDictItems:
          return "dict_items";
      }
      return "list";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kIterator:
      return "generator";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
  }
  return "object";
}

std::string Value::undefined_message() const {
  const auto& object = std::get<0>(data_);
  return object ? object->message : "a value is undefined";
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kSequence:
      return as_sequence().depth;
    case Kind::kDict:
      return as_dict().depth();
    case Kind::kIterator:
      return as_iterator().depth;
    case Kind::kFunction:
      return as_function().depth;
    case Kind::kLoop:
      return as_loop().depth();
    default:
      return 0;
  }
}

const Value* DictObject::find(const Value& key) const {
  const auto found = index_.find(canonical_key(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* DictObject::find(std::string_view key) const {
  const auto found = index_.find("s" + std::string(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

void DictObject::set(const Value& key, Value value) {
  depth_ = std::max(depth_, checked_depth(std::max(value.depth(), key.depth())));
  const auto [place, is_new] = index_.try_emplace(canonical_key(key), entries_.size());
  if (is_new)
    entries_.emplace_back(key, std::move(value));
  else
    entries_[place->second].second = std::move(value);
}

void DictObject::clear() {
  entries_.clear();
  index_.clear();
}

}  // namespace kvasir::text::jinja

#include <fmt/format.h>

#include "text/jinja_interpreter.h"

namespace kvasir::text::jinja {

bool LoopObject::peek() {
  if (!ahead_.empty()) return true;
  Value item;
  if (!source_(&item)) return false;
  ahead_.push_back(std::move(item));
  return true;
}

bool LoopObject::advance(Value* item) {
  if (!peek()) return false;
  *item = std::move(ahead_.back());
  ahead_.pop_back();
  ++index0_;
  before_ = std::move(current_);
  current_ = *item;
  return true;
}

bool LoopObject::is_last() { return !peek(); }

int64_t LoopObject::length(Budget& budget) {
  if (size_) return *size_;
  std::vector<Value> rest(ahead_.rbegin(), ahead_.rend());
  Value item;
  while (source_(&item)) {
    budget.charge(sizeof(Value));
    rest.push_back(item);
  }
  ahead_.assign(rest.rbegin(), rest.rend());
  size_ = index0_ + 1 + static_cast<int64_t>(ahead_.size());
  return *size_;
}

namespace {

Value bind(const Value& self, std::string name,
           std::function<Value(Interpreter&, const Arguments&)> call) {
  FunctionObject function;
  function.name = std::move(name);
  function.depth = self.depth();
  function.call = std::move(call);
  return Value::function(std::move(function));
}

}  // namespace

std::optional<Value> LoopObject::attribute(Budget& budget, const Value& self,
                                           std::string_view name) {
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(is_last());
  if (name == "length") return Value::integer(length(budget));
  if (name == "revindex") return Value::integer(length(budget) - index0_);
  if (name == "revindex0") return Value::integer(length(budget) - index0_ - 1);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem")
    return index0_ == 0 ? Value::undefined("there is no previous item") : before_;
  if (name == "nextitem") return peek() ? ahead_.back() : Value::undefined("there is no next item");
  if (name == "cycle")
    return bind(self, "cycle", [self](Interpreter&, const Arguments& arguments) {
      if (arguments.positional.empty()) fail("no items for cycling given");
      const auto at = static_cast<size_t>(self.as_loop().index0_);
      return arguments.positional[at % arguments.positional.size()];
    });
  if (name == "changed")
    return bind(self, "changed", [self](Interpreter& interpreter, const Arguments& arguments) {
      std::string now;
      for (const Value& value : arguments.positional)
        now += to_repr(interpreter.budget(), value) + ",";
      LoopObject& loop = self.as_loop();
      const bool is_changed = loop.last_changed_ != now;
      loop.last_changed_ = std::move(now);
      return Value::boolean(is_changed);
    });
  return std::nullopt;
}

}  // namespace kvasir::text::jinja

#include "text/jinja_interpreter.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_text.h"

namespace kvasir::text::jinja {

const Value* Scope::find(std::string_view name) const {
  const auto found = variables.find(name);
  return found == variables.end() ? nullptr : &found->second;
}

void Scope::set(std::string_view name, Value value) {
  const auto found = variables.find(name);
  if (found != variables.end())
    found->second = std::move(value);
  else
    variables.emplace(name, std::move(value));
}

// A scope, and one level of nesting, for as long as it lives.
class Interpreter::Enter {
 public:
  Enter(Interpreter* interpreter, std::shared_ptr<Scope> parent)
      : interpreter_(interpreter), outer_(interpreter->scope_) {
    interpreter->scope_ = std::make_shared<Scope>(Scope{std::move(parent), {}});
  }
  ~Enter() { interpreter_->scope_ = std::move(outer_); }
  Enter(const Enter&) = delete;
  Enter& operator=(const Enter&) = delete;

 private:
  Interpreter* interpreter_;
  std::shared_ptr<Scope> outer_;
};

namespace {

// Sets a variable for as long as it lives.
template <class T>
class Restore {
 public:
  Restore(T* place, T value) : place_(place), old_(*place) { *place = value; }
  ~Restore() { *place_ = old_; }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T* place_;
  T old_;
};

void check_depth(int depth) {
  if (depth > kMaxCallDepth)
    throw Failure{ErrorCode::kResourceExhausted, "calls in the template nest too deeply"};
}

}  // namespace

Interpreter::Interpreter(const DictObject& variables, const Limits& limits, const Clock& clock)
    : variables_(variables), clock_(clock), budget_(limits), scope_(std::make_shared<Scope>()) {}

Interpreter::~Interpreter() {
  for (const auto& scope : captured_) scope->variables.clear();
  for (const auto& object : namespaces_) object->attributes.clear();
}

Value Interpreter::adopt_namespace(DictObject attributes) {
  auto object = std::make_shared<NamespaceObject>();
  object->attributes = std::move(attributes);
  budget_.charge(sizeof(NamespaceObject));
  namespaces_.push_back(object);
  return Value::name_space(std::move(object));
}

std::string Interpreter::run(const Body& body) {
  std::string text;
  out_ = &text;
  run_body(body);
  return text;
}

void Interpreter::write(std::string_view text) {
  budget_.charge(text.size());
  if (out_->size() + text.size() > budget_.limits().max_output_bytes)
    throw Failure{ErrorCode::kResourceExhausted,
                  fmt::format("the rendered text is larger than {} bytes",
                              budget_.limits().max_output_bytes)};
  *out_ += text;
}

void Interpreter::print(const Value& value) {
  if (value.is_string())
    write(value.as_string());
  else if (!value.is_undefined())
    write(to_text(budget_, value));
}

// ---- statements ----

Interpreter::Flow Interpreter::run_body(const Body& body) {
  const Restore depth(&depth_, depth_ + 1);
  check_depth(depth_);
  for (const Statement& statement : body) {
    budget_.step();
    const Flow flow = run_statement(statement);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_statement(const Statement& statement) {
  offset_ = statement.offset;
  Flow flow = Flow::kNormal;
  switch (statement.kind) {
    case StatementKind::kText:
      write(statement.text);
      break;
    case StatementKind::kPrint:
      print(evaluate(*statement.expression));
      break;
    case StatementKind::kIf:
      return run_if(statement);
    case StatementKind::kFor:
      return run_for(statement);
    case StatementKind::kSet:
      run_set(statement);
      break;
    case StatementKind::kSetBlock:
      run_set_block(statement, &flow);
      return flow;
    case StatementKind::kMacro:
      scope_->set(statement.macro->name, make_macro(*statement.macro));
      break;
    case StatementKind::kCallBlock:
      run_call_block(statement);
      break;
    case StatementKind::kFilterBlock:
      return run_filter_block(statement);
    case StatementKind::kWith:
      return run_with(statement);
    case StatementKind::kScope:
      return run_scoped(statement.body);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return flow;
}

void Interpreter::run_set(const Statement& statement) {
  const Value value = evaluate(*statement.expression);
  offset_ = statement.target.offset;
  assign(statement.target, value);
}

Interpreter::Flow Interpreter::run_if(const Statement& statement) {
  for (const Branch& branch : statement.branches)
    if (evaluate(*branch.condition).truthy()) return run_body(branch.body);
  return run_body(statement.body_else);
}

Interpreter::Flow Interpreter::run_scoped(const Body& body) {
  const Enter enter(this, scope_);
  return run_body(body);
}

Interpreter::Flow Interpreter::run_for(const Statement& statement) {
  bool any = false;
  run_for_rounds(statement, &any);
  return any ? Flow::kNormal : run_scoped(statement.body_else);
}

void Interpreter::run_for_rounds(const Statement& statement, bool* any) {
  const Value iterable = evaluate(*statement.expression);
  offset_ = statement.offset;
  auto cursor = std::make_shared<Cursor>(iterable);
  std::optional<int64_t> size;
  std::function<bool(Value*)> source = [cursor](Value* item) { return cursor->next(item); };
  if (statement.filter) {
    // Tested as the loop asks for items: the body may change what the test sees.
    capture_scope();
    source = [this, cursor, &statement, parent = scope_](Value* item) {
      while (cursor->next(item)) {
        budget_.step();
        const Enter enter(this, parent);
        assign(statement.target, *item);
        if (evaluate(*statement.filter).truthy()) return true;
      }
      return false;
    };
  } else if (!iterable.is(Kind::kIterator)) {
    charge_scan(budget_, iterable);
    size = length(iterable);
  }
  auto loop = std::make_shared<LoopObject>(std::move(source), size, iterable.depth() + 1);
  Value item;
  while (loop->advance(&item)) {
    budget_.step();
    const Enter enter(this, scope_);
    scope_->set("loop", Value::loop(loop));
    offset_ = statement.target.offset;
    assign(statement.target, item);
    const Flow flow = run_body(statement.body);
    if (flow == Flow::kBreak) break;
    *any |= flow == Flow::kNormal;  // Jinja's `else` runs where no round came to its end
  }
}

Interpreter::Flow Interpreter::run_captured(const Body& body, std::string* text) {
  const Restore out(&out_, text);
  return run_scoped(body);
}

void Interpreter::run_set_block(const Statement& statement, Flow* flow) {
  std::string text;
  *flow = run_captured(statement.body, &text);
  if (*flow != Flow::kNormal) return;
  Value value = make_string(budget_, std::move(text));
  if (statement.filter) value = apply_filters(*statement.filter, std::move(value));
  offset_ = statement.target.offset;
  assign(statement.target, value);
}

Interpreter::Flow Interpreter::run_filter_block(const Statement& statement) {
  std::string text;
  const Flow flow = run_captured(statement.body, &text);
  if (flow != Flow::kNormal) return flow;
  print(apply_filters(*statement.filter, make_string(budget_, std::move(text))));
  return Flow::kNormal;
}

void Interpreter::run_call_block(const Statement& statement) {
  const Expression& call_node = *statement.expression;
  const Value caller = make_macro(*statement.macro);
  const Value callee = evaluate(*call_node.items[0]);
  Arguments arguments = evaluate_arguments(call_node.arguments);
  arguments.named.emplace_back("caller", caller);
  offset_ = call_node.offset;
  print(call(callee, arguments));
}

Interpreter::Flow Interpreter::run_with(const Statement& statement) {
  std::vector<Value> values;  // all seen from outside
  for (const auto& assignment : statement.assignments)
    values.push_back(evaluate(*assignment.second));
  const Enter enter(this, scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
  return run_body(statement.body);
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (!target.is_tuple) {
    if (!target.attribute.empty()) return assign_attribute(target, value);
    scope_->set(target.name, value);
    return;
  }
  if (value.is_undefined()) fail(value.undefined_message());
  const std::vector<Value> items = to_vector(budget_, value);
  if (items.size() != target.parts.size())
    fail(fmt::format("expected {} values to unpack, found {}", target.parts.size(), items.size()));
  for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
}

void Interpreter::assign_attribute(const Target& target, const Value& value) {
  const Value* object = find_variable(target.name);
  if (object == nullptr || !object->is(Kind::kNamespace))
    fail(fmt::format("cannot assign the attribute '{}': '{}' is not a namespace", target.attribute,
                     target.name));
  if (target.attribute.starts_with('_'))
    fail(fmt::format("attributes of a namespace cannot start with '_', found '{}'",
                     target.attribute));
  object->as_namespace().attributes.set(Value::string(target.attribute), value);
}

const Value* Interpreter::find_variable(std::string_view name) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
    if (const Value* found = scope->find(name)) return found;
  return variables_.find(name);
}

// ---- expressions ----

Value Interpreter::evaluate(const Expression& node) {
  const Restore depth(&depth_, depth_ + 1);
  check_depth(depth_);
  budget_.step();
  offset_ = node.offset;
  return evaluate_inner(node);
}

Value Interpreter::evaluate_inner(const Expression& node) {
  using K = ExpressionKind;
  switch (node.kind) {
    case K::kConstant:
      return node.value;
    case K::kName:
      return evaluate_name(node);
    case K::kList:
    case K::kTuple:
      return evaluate_list(node);
    case K::kDict:
      return evaluate_dict(node);
    case K::kAttribute:
    case K::kItem:
      return evaluate_member(node);
    case K::kSlice:
      return evaluate_slice(node);
    case K::kCall:
      return evaluate_call(node);
    case K::kFilter:
      return evaluate_filter(node, evaluate(*node.items[0]));
    case K::kTest:
      return evaluate_test(node);
    case K::kNot:
      return Value::boolean(!evaluate(*node.items[0]).truthy());
    case K::kNegative:
    case K::kPositive:
    case K::kBinary:
      return evaluate_arithmetic(node);
    case K::kConcat:
      return evaluate_concat(node);
    case K::kCompare:
      return evaluate_compare(node);
    case K::kAnd:
    case K::kOr: {
      Value left = evaluate(*node.items[0]);
      return left.truthy() == (node.kind == K::kOr) ? left : evaluate(*node.items[1]);
    }
    case K::kConditional:
      return evaluate_conditional(node);
  }
  return {};
}

Value Interpreter::evaluate_name(const Expression& node) {
  if (const Value* found = find_variable(node.name)) return *found;
  if (auto found = find_global(node.name)) return *std::move(found);
  return Value::undefined(fmt::format("'{}' is undefined", node.name));
}

Value Interpreter::evaluate_list(const Expression& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) items.push_back(evaluate(*item));
  budget_.charge(items.size() * sizeof(Value));
  return node.kind == ExpressionKind::kList ? Value::list(std::move(items))
                                            : Value::tuple(std::move(items));
}

Value Interpreter::evaluate_dict(const Expression& node) {
  DictObject dict;
  for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
    const Value key = evaluate(*node.items[i]);
    Value value = evaluate(*node.items[i + 1]);
    budget_.charge(4 * sizeof(Value));
    charge_scan(budget_, key);
    dict.set(key, std::move(value));
  }
  return Value::dict(std::move(dict));
}

Value Interpreter::evaluate_member(const Expression& node) {
  const Value object = evaluate(*node.items[0]);
  if (node.kind == ExpressionKind::kAttribute) {
    offset_ = node.offset;
    if (object.is(Kind::kLoop))
      if (auto found = object.as_loop().attribute(budget_, object, node.name)) return *found;
    return get_attribute(budget_, object, node.name);
  }
  const Value key = evaluate(*node.items[1]);
  offset_ = node.offset;
  if (object.is(Kind::kLoop) && key.is_string())
    if (auto found = object.as_loop().attribute(budget_, object, key.as_string())) return *found;
  return get_item(budget_, object, key);
}

Value Interpreter::evaluate_slice(const Expression& node) {
  const Value object = evaluate(*node.items[0]);
  Value bounds[3] = {Value::none(), Value::none(), Value::none()};
  for (size_t i = 0; i < 3; ++i)
    if (node.items[i + 1]) bounds[i] = evaluate(*node.items[i + 1]);
  offset_ = node.offset;
  return get_slice(budget_, object, bounds[0], bounds[1], bounds[2]);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& nodes) {
  Arguments arguments;
  for (const ExpressionPtr& node : nodes.positional)
    arguments.positional.push_back(evaluate(*node));
  for (const auto& [name, node] : nodes.named) arguments.named.emplace_back(name, evaluate(*node));
  if (nodes.spread)
    for (Value& value : to_vector(budget_, evaluate(*nodes.spread)))
      arguments.positional.push_back(std::move(value));
  if (nodes.spread_named) {
    const Value named = evaluate(*nodes.spread_named);
    if (!named.is(Kind::kDict))
      fail(fmt::format("expected a mapping behind **, found '{}'", named.type_name()));
    for (const auto& [key, value] : named.as_dict().entries()) {
      if (!key.is_string()) fail("keywords must be strings");
      budget_.step(arguments.named.size() + 1);
      for (const auto& other : arguments.named)
        if (other.first == key.as_string())
          fail(fmt::format("the argument '{}' is given twice", key.as_string()));
      arguments.named.emplace_back(key.as_string(), value);
    }
  }
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& node) {
  const Value callee = evaluate(*node.items[0]);
  const Arguments arguments = evaluate_arguments(node.arguments);
  offset_ = node.offset;
  return call(callee, arguments);
}

Value Interpreter::call(const Value& callee, const Arguments& arguments) {
  const Restore depth(&depth_, depth_ + 1);
  check_depth(depth_);
  if (callee.is_undefined()) fail(callee.undefined_message());
  if (!callee.is(Kind::kFunction))
    fail(fmt::format("'{}' object cannot be called", callee.type_name()));
  charge_scan(budget_, arguments);
  return callee.as_function().call(*this, arguments);
}

Value Interpreter::evaluate_filter(const Expression& node, const Value& input) {
  const Arguments arguments = evaluate_arguments(node.arguments);
  offset_ = node.offset;
  return apply_filter(*this, node.name, input, arguments);
}

// The chain of filters of a block, innermost first.
Value Interpreter::apply_filters(const Expression& node, Value input) {
  if (node.items[0]) input = apply_filters(*node.items[0], std::move(input));
  return evaluate_filter(node, input);
}

Value Interpreter::evaluate_test(const Expression& node) {
  const Value value = evaluate(*node.items[0]);
  const Arguments arguments = evaluate_arguments(node.arguments);
  offset_ = node.offset;
  return Value::boolean(apply_test(*this, node.name, value, arguments));
}

Value Interpreter::evaluate_arithmetic(const Expression& node) {
  const Value left = evaluate(*node.items[0]);
  if (node.kind != ExpressionKind::kBinary) {
    offset_ = node.offset;
    return node.kind == ExpressionKind::kNegative ? negative(left) : positive(left);
  }
  const Value right = evaluate(*node.items[1]);
  offset_ = node.offset;
  return binary(budget_, node.name, left, right);
}

Value Interpreter::evaluate_concat(const Expression& node) {
  std::string text;
  for (const ExpressionPtr& item : node.items) {
    const Value value = evaluate(*item);
    text += to_text(budget_, value);
  }
  offset_ = node.offset;
  return make_string(budget_, std::move(text));
}

Value Interpreter::evaluate_compare(const Expression& node) {
  Value left = evaluate(*node.items[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate(*node.items[i + 1]);
    offset_ = node.offset;
    if (!compare(budget_, node.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_conditional(const Expression& node) {
  if (evaluate(*node.items[0]).truthy()) return evaluate(*node.items[1]);
  if (node.items[2]) return evaluate(*node.items[2]);
  return Value::undefined("the inline if-expression evaluated to false and has no else part");
}

// ---- macros ----

// A value is about to refer to the current scope: it lives, and cycles through it end, with this
// interpreter.
void Interpreter::capture_scope() {
  if (!captured_.empty() && captured_.back() == scope_) return;
  budget_.charge(sizeof(Scope));
  captured_.push_back(scope_);
}

Value Interpreter::make_macro(const MacroDefinition& macro) {
  capture_scope();
  budget_.charge(sizeof(FunctionObject));
  FunctionObject function;
  function.name = macro.name;
  function.call = [this, &macro, closure = scope_](Interpreter&, const Arguments& arguments) {
    return call_macro(macro, closure, arguments);
  };
  return Value::function(std::move(function));
}

Value Interpreter::call_macro(const MacroDefinition& macro, const std::shared_ptr<Scope>& closure,
                              const Arguments& arguments) {
  const size_t offset = offset_;
  std::string text;
  {
    const Enter enter(this, closure);
    const Restore out(&out_, &text);
    bind_macro(macro, arguments);
    run_body(macro.body);
  }
  offset_ = offset;
  return make_string(budget_, std::move(text));
}

void Interpreter::bind_macro(const MacroDefinition& macro, const Arguments& arguments) {
  auto named = arguments.named;
  const auto take_named = [&](const std::string& name) -> std::optional<Value> {
    for (auto at = named.begin(); at != named.end(); ++at) {
      if (at->first != name) continue;
      Value value = std::move(at->second);
      named.erase(at);
      return value;
    }
    return std::nullopt;
  };
  const size_t count = macro.parameters.size();
  bool has_caller = false;
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = macro.parameters[i];
    has_caller |= parameter.name == "caller";
    if (i < arguments.positional.size()) {
      scope_->set(parameter.name, arguments.positional[i]);
    } else if (auto value = take_named(parameter.name)) {
      scope_->set(parameter.name, *std::move(value));
    } else if (parameter.default_value) {
      scope_->set(parameter.name, evaluate(*parameter.default_value));
    } else {
      scope_->set(parameter.name,
                  Value::undefined(fmt::format("parameter '{}' was not provided", parameter.name)));
    }
  }
  if (macro.uses_caller && !has_caller) {
    auto caller = take_named("caller");
    scope_->set("caller", caller ? *std::move(caller) : Value::undefined("no caller defined"));
  }
  if (macro.uses_kwargs) {
    DictObject rest;
    for (const auto& [name, value] : named) rest.set(Value::string(name), value);
    scope_->set("kwargs", Value::dict(std::move(rest)));
  } else if (!named.empty()) {
    fail(fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, named[0].first));
  }
  if (macro.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = count; i < arguments.positional.size(); ++i)
      rest.push_back(arguments.positional[i]);
    scope_->set("varargs", Value::tuple(std::move(rest)));
  } else if (arguments.positional.size() > count) {
    fail(fmt::format("macro '{}' takes not more than {} arguments, found {}", macro.name, count,
                     arguments.positional.size()));
  }
}

Value apply_filter(Interpreter& interpreter, std::string_view name, const Value& input,
                   const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) fail(fmt::format("no filter named '{}'", name));
  interpreter.budget().step();
  charge_scan(interpreter.budget(), input);
  charge_scan(interpreter.budget(), arguments);
  return filter(interpreter, input, arguments);
}

bool apply_test(Interpreter& interpreter, std::string_view name, const Value& input,
                const Arguments& arguments) {
  const Test test = find_test(name);
  if (test == nullptr) fail(fmt::format("no test named '{}'", name));
  interpreter.budget().step();
  charge_scan(interpreter.budget(), input);
  charge_scan(interpreter.budget(), arguments);
  return test(interpreter, input, arguments);
}

}  // namespace kvasir::text::jinja

#pragma once
// Runs a syntax tree: one Interpreter for one rendering.

#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_ops.h"
#include "text/jinja_value.h"

namespace kvasir::text::jinja {

// Calls, expressions and statements inside one another.
inline constexpr int kMaxCallDepth = 600;

struct Scope {
  std::shared_ptr<Scope> parent;
  std::map<std::string, Value, std::less<>> variables;

  const Value* find(std::string_view name) const;  // here, not in the parents
  void set(std::string_view name, Value value);
};

// State of a `for` loop: what templates see as `loop`.
class LoopObject {
 public:
  // `source` walks the items; `size` is their number where the iterable knows it.
  LoopObject(std::function<bool(Value*)> source, std::optional<int64_t> size, int depth)
      : source_(std::move(source)), size_(size), depth_(depth) {}

  bool advance(Value* item);
  int64_t length(Budget& budget);
  bool is_last();
  // nullopt: loops have no such attribute.
  std::optional<Value> attribute(Budget& budget, const Value& self, std::string_view name);
  int depth() const { return depth_; }

 private:
  bool peek();

  std::function<bool(Value*)> source_;
  std::optional<int64_t> size_;
  int depth_;
  int64_t index0_ = -1;
  std::vector<Value> ahead_;  // read from the source but not yet visited, last one first
  Value before_, current_;
  std::optional<std::string> last_changed_;
};

using Clock = std::function<std::tm()>;

class Interpreter {
 public:
  // All references must outlive the interpreter.
  Interpreter(const DictObject& variables, const Limits& limits, const Clock& clock);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The rendered text. Throws Failure; offset() then says where.
  std::string run(const Body& body);
  size_t offset() const { return offset_; }

  Budget& budget() { return budget_; }
  const Clock& clock() const { return clock_; }
  Value call(const Value& callee, const Arguments& arguments);
  // Registers a namespace so that reference cycles through it end with this interpreter.
  Value adopt_namespace(DictObject attributes);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class Enter;

  Flow run_body(const Body& body);
  Flow run_statement(const Statement& statement);
  Flow run_if(const Statement& statement);
  Flow run_for(const Statement& statement);
  void run_for_rounds(const Statement& statement, bool* any);
  void run_set(const Statement& statement);
  void run_set_block(const Statement& statement, Flow* flow);
  void run_call_block(const Statement& statement);
  Flow run_filter_block(const Statement& statement);
  Flow run_with(const Statement& statement);
  Flow run_captured(const Body& body, std::string* text);
  Flow run_scoped(const Body& body);
  void assign(const Target& target, const Value& value);
  void assign_attribute(const Target& target, const Value& value);
  void print(const Value& value);
  void write(std::string_view text);

  Value evaluate(const Expression& node);
  Value evaluate_inner(const Expression& node);
  Value evaluate_name(const Expression& node);
  Value evaluate_list(const Expression& node);
  Value evaluate_dict(const Expression& node);
  Value evaluate_member(const Expression& node);
  Value evaluate_arithmetic(const Expression& node);
  Value evaluate_slice(const Expression& node);
  Value evaluate_call(const Expression& node);
  Value evaluate_filter(const Expression& node, const Value& input);
  Value evaluate_test(const Expression& node);
  Value evaluate_concat(const Expression& node);
  Value evaluate_compare(const Expression& node);
  Value evaluate_conditional(const Expression& node);
  Arguments evaluate_arguments(const CallArguments& arguments);

  Value apply_filters(const Expression& node, Value input);
  void capture_scope();
  Value make_macro(const MacroDefinition& macro);
  Value call_macro(const MacroDefinition& macro, const std::shared_ptr<Scope>& closure,
                   const Arguments& arguments);
  void bind_macro(const MacroDefinition& macro, const Arguments& arguments);
  const Value* find_variable(std::string_view name) const;

  const DictObject& variables_;
  const Clock& clock_;
  Budget budget_;
  std::shared_ptr<Scope> scope_;
  std::string* out_ = nullptr;
  size_t offset_ = 0;
  int depth_ = 0;
  std::vector<std::shared_ptr<Scope>> captured_;
  std::vector<std::shared_ptr<NamespaceObject>> namespaces_;
};

// Filters: nullptr where there is none of that name.
using Filter = Value (*)(Interpreter&, const Value& input, const Arguments&);
Filter find_filter(std::string_view name);
// Tests (`is`).
using Test = bool (*)(Interpreter&, const Value& input, const Arguments&);
Test find_test(std::string_view name);
// Global functions; nullopt where there is none of that name.
std::optional<Value> find_global(std::string_view name);

// Like find_filter, but fail for unknown names.
Value apply_filter(Interpreter& interpreter, std::string_view name, const Value& input,
                   const Arguments& arguments);
bool apply_test(Interpreter& interpreter, std::string_view name, const Value& input,
                const Arguments& arguments);

}  // namespace kvasir::text::jinja

#pragma once
// The syntax tree of a template.

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace kvasir::text::jinja {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<Expression>;
using Body = std::vector<Statement>;

enum class ExpressionKind {
  kConstant,     // value
  kName,         // name
  kList,         // items
  kTuple,        // items
  kDict,         // items: key, value, key, value, ...
  kAttribute,    // items[0].name
  kItem,         // items[0][items[1]]
  kSlice,        // items[0][items[1]:items[2]:items[3]], any of the three null
  kCall,         // items[0](arguments)
  kFilter,       // items[0] | name(arguments); items[0] is null in a filter block
  kTest,         // items[0] is name(arguments)
  kNot,          // not items[0]
  kNegative,     // -items[0]
  kPositive,     // +items[0]
  kBinary,       // items[0] name items[1]; name is + - * / // % **
  kConcat,       // items[0] ~ items[1] ~ ...
  kCompare,      // items[0] operators[0] items[1] operators[1] items[2] ...
  kAnd,          // items[0] and items[1]
  kOr,           // items[0] or items[1]
  kConditional,  // items[1] if items[0] else items[2] (null: undefined)
};

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr spread;        // *expression
  ExpressionPtr spread_named;  // **expression
};

struct Expression {
  ExpressionKind kind;
  size_t offset = 0;
  int depth = 1;
  Value value;
  std::string name;
  std::vector<std::string> operators;
  std::vector<ExpressionPtr> items;
  CallArguments arguments;
};

// Where a value goes: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  size_t offset = 0;
  std::string name;
  std::string attribute;  // empty: the name itself
  std::vector<Target> parts;
  bool is_tuple = false;
};

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // null: none
};

// A macro, or the body that a call block passes as `caller`.
struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

enum class StatementKind {
  kText,         // text
  kPrint,        // expression
  kIf,           // branches; body_else
  kFor,          // target, expression (what), filter, body, body_else
  kSet,          // target, expression
  kSetBlock,     // target, filter (may be null), body
  kMacro,        // macro
  kCallBlock,    // expression (the call), macro (the caller)
  kFilterBlock,  // filter, body
  kWith,         // assignments, body
  kScope,        // body, in a scope of its own
  kBreak,
  kContinue,
};

struct Branch {
  ExpressionPtr condition;
  Body body;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  size_t offset = 0;
  std::string text;
  ExpressionPtr expression, filter;
  Target target;
  std::vector<Branch> branches;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  std::unique_ptr<MacroDefinition> macro;
  Body body, body_else;
};

}  // namespace kvasir::text::jinja

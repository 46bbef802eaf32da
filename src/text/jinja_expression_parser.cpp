#include "text/jinja_expression_parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_parser.h"

namespace kvasir::text::jinja {

namespace {

std::string describe(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "text";
    case TokenType::kPrintBegin:
      return "'{{'";
    case TokenType::kPrintEnd:
      return "'}}'";
    case TokenType::kTagBegin:
      return "'{%'";
    case TokenType::kTagEnd:
      return "'%}'";
    case TokenType::kName:
    case TokenType::kOperator:
      return fmt::format("'{}'", token.text);
    case TokenType::kString:
      return "a string";
    case TokenType::kInteger:
    case TokenType::kFloat:
      return "a number";
    case TokenType::kEnd:
      return "the end of the template";
  }
  return "?";
}

}  // namespace

ExpressionParser::Nest::Nest(ExpressionParser* parser) : parser_(parser) {
  if (parser_->nesting_ >= kMaxSyntaxDepth)
    parser_->fail(
        fmt::format("expected at most {} levels of nesting, found more", kMaxSyntaxDepth));
  ++parser_->nesting_;
}

void ExpressionParser::fail_expected(std::string_view what) const {
  fail(fmt::format("expected {}, found {}", what, describe(current())));
}

void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) fail_expected(fmt::format("'{}'", text));
}

std::string ExpressionParser::expect_name() {
  if (!at(TokenType::kName)) fail_expected("a name");
  return next().text;
}

void ExpressionParser::expect_tag_end() {
  if (!at(TokenType::kTagEnd)) fail_expected("'%}'");
  next();
}

ExpressionPtr ExpressionParser::make(Kind kind, size_t offset) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->offset = offset;
  return node;
}

void ExpressionParser::grow(Expression* node, const Expression& child) const {
  node->depth = std::max(node->depth, child.depth + 1);
  if (node->depth > kMaxSyntaxDepth)
    fail(
        fmt::format("expected at most {} levels of nested operations, found more", kMaxSyntaxDepth),
        node->offset);
}

void ExpressionParser::adopt(Expression* node, ExpressionPtr child) const {
  if (child) grow(node, *child);
  node->items.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::make(Kind kind, size_t offset, ExpressionPtr first,
                                     ExpressionPtr second) const {
  auto node = make(kind, offset);
  adopt(node.get(), std::move(first));
  if (second) adopt(node.get(), std::move(second));
  return node;
}

bool ExpressionParser::at_tuple_end(std::string_view end_name) const {
  return at(TokenType::kPrintEnd) || at(TokenType::kTagEnd) || at_operator(")") ||
         (!end_name.empty() && at_name(end_name));
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_conditional, std::string_view end_name,
                                            bool in_parentheses) {
  auto tuple = make(Kind::kTuple, current().offset);
  bool is_tuple = false;
  while (true) {
    if (!tuple->items.empty()) expect_operator(",");
    if (at_tuple_end(end_name)) break;
    adopt(tuple.get(), with_conditional ? parse_expression() : parse_or());
    if (!at_operator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (!tuple->items.empty()) return std::move(tuple->items.front());
  if (!in_parentheses) fail_expected("an expression");
  return tuple;
}

ExpressionPtr ExpressionParser::parse_expression() {
  const Nest nest(this);
  ExpressionPtr left = parse_or();
  while (at_name("if")) {
    auto node = make(Kind::kConditional, next().offset);
    adopt(node.get(), parse_or());
    adopt(node.get(), std::move(left));
    adopt(node.get(), skip_name("else") ? parse_expression() : nullptr);
    left = std::move(node);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (at_name("or")) {
    const size_t offset = next().offset;
    left = make(Kind::kOr, offset, std::move(left), parse_and());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (at_name("and")) {
    const size_t offset = next().offset;
    left = make(Kind::kAnd, offset, std::move(left), parse_not());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nest nest(this);
  const size_t offset = next().offset;
  return make(Kind::kNot, offset, parse_not());
}

std::string ExpressionParser::parse_compare_operator() {
  if (at(TokenType::kOperator)) {
    for (const std::string_view symbol : {"==", "!=", "<=", ">=", "<", ">"})
      if (at_operator(symbol)) return next().text;
  } else if (skip_name("in")) {
    return "in";
  } else if (at_name("not") && is(look(), TokenType::kName, "in")) {
    next();
    next();
    return "not in";
  }
  return {};
}

ExpressionPtr ExpressionParser::parse_compare() {
  ExpressionPtr left = parse_sum();
  const size_t offset = current().offset;
  std::string symbol = parse_compare_operator();
  if (symbol.empty()) return left;
  auto node = make(Kind::kCompare, offset, std::move(left));
  for (; !symbol.empty(); symbol = parse_compare_operator()) {
    node->operators.push_back(symbol);
    adopt(node.get(), parse_sum());
  }
  return node;
}

bool ExpressionParser::at_any(std::initializer_list<std::string_view> symbols) const {
  return at(TokenType::kOperator) &&
         std::find(symbols.begin(), symbols.end(), current().text) != symbols.end();
}

ExpressionPtr ExpressionParser::make_binary(const Token& symbol, ExpressionPtr left,
                                            ExpressionPtr right) const {
  auto node = make(Kind::kBinary, symbol.offset, std::move(left), std::move(right));
  node->name = symbol.text;
  return node;
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (at_any({"+", "-"})) {
    const Token& symbol = next();
    left = make_binary(symbol, std::move(left), parse_concat());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  ExpressionPtr left = parse_product();
  if (!at_operator("~")) return left;
  auto node = make(Kind::kConcat, current().offset, std::move(left));
  while (skip_operator("~")) adopt(node.get(), parse_product());
  return node;
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (at_any({"*", "/", "//", "%"})) {
    const Token& symbol = next();
    left = make_binary(symbol, std::move(left), parse_power());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (at_any({"**"})) {
    const Token& symbol = next();
    left = make_binary(symbol, std::move(left), parse_unary(true));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nest nest(this);
  ExpressionPtr node;
  if (at_any({"+", "-"})) {
    const Token& symbol = next();
    node = make(symbol.text == "-" ? Kind::kNegative : Kind::kPositive, symbol.offset,
                parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::make_constant(Value value, size_t offset) const {
  auto node = make(Kind::kConstant, offset);
  node->value = std::move(value);
  return node;
}

ExpressionPtr ExpressionParser::parse_name() {
  const Token& token = next();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return make_constant(Value::boolean(true), token.offset);
  if (name == "false" || name == "False") return make_constant(Value::boolean(false), token.offset);
  if (name == "none" || name == "None") return make_constant(Value::none(), token.offset);
  for (MacroDefinition* macro : macros_) {
    macro->uses_caller |= name == "caller";
    macro->uses_varargs |= name == "varargs";
    macro->uses_kwargs |= name == "kwargs";
  }
  auto node = make(Kind::kName, token.offset);
  node->name = name;
  return node;
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = current();
  switch (token.type) {
    case TokenType::kName:
      return parse_name();
    case TokenType::kString: {
      std::string text;
      while (at(TokenType::kString)) text += next().text;
      return make_constant(Value::string(std::move(text)), token.offset);
    }
    case TokenType::kInteger:
      next();
      return make_constant(Value::integer(token.integer), token.offset);
    case TokenType::kFloat:
      next();
      return make_constant(Value::real(token.real), token.offset);
    case TokenType::kOperator:
      break;
    default:
      fail_expected("an expression");
  }
  if (skip_operator("(")) {
    ExpressionPtr node = parse_tuple(true, {}, true);
    expect_operator(")");
    return node;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_dict();
  fail_expected("an expression");
}

ExpressionPtr ExpressionParser::parse_list() {
  auto node = make(Kind::kList, next().offset);
  while (!at_operator("]")) {
    if (!node->items.empty()) expect_operator(",");
    if (at_operator("]")) break;
    adopt(node.get(), parse_expression());
  }
  next();
  return node;
}

ExpressionPtr ExpressionParser::parse_dict() {
  auto node = make(Kind::kDict, next().offset);
  while (!at_operator("}")) {
    if (!node->items.empty()) expect_operator(",");
    if (at_operator("}")) break;
    adopt(node.get(), parse_expression());
    expect_operator(":");
    adopt(node.get(), parse_expression());
  }
  next();
  return node;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (at_operator("."))
      node = parse_attribute(std::move(node));
    else if (at_operator("["))
      node = parse_subscript(std::move(node));
    else if (at_operator("("))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr object) {
  const size_t offset = next().offset;
  if (at(TokenType::kInteger)) {
    const Token& token = next();
    return make(Kind::kItem, offset, std::move(object),
                make_constant(Value::integer(token.integer), token.offset));
  }
  if (!at(TokenType::kName)) fail_expected("a name or number after '.'");
  auto node = make(Kind::kAttribute, offset, std::move(object));
  node->name = next().text;
  return node;
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr object) {
  const size_t offset = next().offset;
  std::vector<ExpressionPtr> parts;
  bool is_slice = false;
  if (!at_operator(":")) parts.push_back(parse_expression());
  if (at_operator(":")) {
    is_slice = true;
    parts.resize(3);
    for (int part = 1; part < 3 && skip_operator(":"); ++part)
      if (!at_operator(":") && !at_operator("]") && !at_operator(","))
        parts[static_cast<size_t>(part)] = parse_expression();
  }
  if (at_operator(",")) {
    if (is_slice) fail("slices of several dimensions are not offered");
    auto tuple = make(Kind::kTuple, offset, std::move(parts.front()));
    while (skip_operator(",")) adopt(tuple.get(), parse_expression());
    parts.front() = std::move(tuple);
  }
  expect_operator("]");
  auto node = make(is_slice ? Kind::kSlice : Kind::kItem, offset, std::move(object));
  for (ExpressionPtr& part : parts) adopt(node.get(), std::move(part));
  return node;
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr callee) {
  auto node = make(Kind::kCall, current().offset, std::move(callee));
  parse_arguments(node.get());
  return node;
}

ExpressionPtr ExpressionParser::checked(Expression* node, ExpressionPtr argument) const {
  grow(node, *argument);
  return argument;
}

void ExpressionParser::parse_arguments(Expression* node) {
  CallArguments& arguments = node->arguments;
  const auto ensure = [&](bool holds) {
    if (!holds) fail("expected positional arguments before named ones and *, found another order");
  };
  expect_operator("(");
  bool is_first = true;
  while (!at_operator(")")) {
    if (!is_first) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    is_first = false;
    if (arguments.positional.size() + arguments.named.size() >= kMaxArguments)
      fail(fmt::format("expected at most {} arguments, found more", kMaxArguments));
    if (skip_operator("*")) {
      ensure(!arguments.spread && !arguments.spread_named);
      arguments.spread = checked(node, parse_expression());
    } else if (skip_operator("**")) {
      ensure(!arguments.spread_named);
      arguments.spread_named = checked(node, parse_expression());
    } else if (at(TokenType::kName) && is(look(), TokenType::kOperator, "=")) {
      ensure(!arguments.spread_named);
      std::string name = next().text;
      for (const auto& other : arguments.named)
        if (other.first == name) fail(fmt::format("the argument '{}' stands here twice", name));
      next();
      arguments.named.emplace_back(std::move(name), checked(node, parse_expression()));
    } else {
      ensure(!arguments.spread && !arguments.spread_named && arguments.named.empty());
      arguments.positional.push_back(checked(node, parse_expression()));
    }
  }
  next();
}

std::string ExpressionParser::parse_dotted_name() {
  std::string name = expect_name();
  while (skip_operator(".")) name += "." + expect_name();
  return name;
}

ExpressionPtr ExpressionParser::parse_one_filter(ExpressionPtr value) {
  auto node = make(Kind::kFilter, current().offset, std::move(value));
  node->name = parse_dotted_name();
  if (at_operator("(")) parse_arguments(node.get());
  return node;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr node) {
  while (skip_operator("|")) node = parse_one_filter(std::move(node));
  return node;
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr node) {
  while (true) {
    if (at_operator("|"))
      node = parse_filters(std::move(node));
    else if (at_name("is"))
      node = parse_test(std::move(node));
    else if (at_operator("("))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

bool ExpressionParser::at_test_argument() const {
  switch (current().type) {
    case TokenType::kName:
      return !at_name("else") && !at_name("or") && !at_name("and");
    case TokenType::kString:
    case TokenType::kInteger:
    case TokenType::kFloat:
      return true;
    default:
      return at_operator("[") || at_operator("{");
  }
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr value) {
  const size_t offset = next().offset;
  const bool is_negated = skip_name("not");
  auto node = make(Kind::kTest, offset, std::move(value));
  node->name = parse_dotted_name();
  if (at_operator("(")) {
    parse_arguments(node.get());
  } else if (at_test_argument()) {
    if (at_name("is")) fail("expected one test, found a second 'is'; use 'and'");
    node->arguments.positional.push_back(checked(node.get(), parse_postfix(parse_primary())));
  }
  return is_negated ? make(Kind::kNot, offset, std::move(node)) : std::move(node);
}

}  // namespace kvasir::text::jinja

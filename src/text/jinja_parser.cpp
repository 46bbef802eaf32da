#include "text/jinja_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "text/jinja_text.h"

namespace kvasir::text::jinja {
namespace {

using Kind = ExpressionKind;

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

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Body run() {
    Body body = parse_body({});
    return body;
  }

 private:
  // Counts nesting for as long as it lives.
  class Nest {
   public:
    explicit Nest(Parser* parser) : parser_(parser) {
      if (++parser_->nesting_ > kMaxSyntaxDepth) {
        --parser_->nesting_;
        parser_->fail(
            fmt::format("expected at most {} levels of nesting, found more", kMaxSyntaxDepth));
      }
    }
    ~Nest() { --parser_->nesting_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Parser* parser_;
  };

  // ---- tokens ----
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool at(TokenType type) const { return current().type == type; }
  static bool is(const Token& token, TokenType type, std::string_view text) {
    return token.type == type && token.text == text;
  }
  bool at_name(std::string_view name) const { return is(current(), TokenType::kName, name); }
  bool at_operator(std::string_view text) const {
    return is(current(), TokenType::kOperator, text);
  }
  bool skip_name(std::string_view name) { return at_name(name) && (next(), true); }
  bool skip_operator(std::string_view text) { return at_operator(text) && (next(), true); }

  [[noreturn]] void fail(std::string message) const { fail(std::move(message), current().offset); }
  [[noreturn]] void fail(std::string message, size_t offset) const {
    throw SyntaxFailure{std::move(message), offset};
  }
  [[noreturn]] void fail_expected(std::string_view what) const {
    fail(fmt::format("expected {}, found {}", what, describe(current())));
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail_expected(fmt::format("'{}'", text));
  }
  std::string expect_name() {
    if (!at(TokenType::kName)) fail_expected("a name");
    return next().text;
  }
  void expect_tag_end() {
    if (!at(TokenType::kTagEnd)) fail_expected("'%}'");
    next();
  }

  // ---- statements ----
  // Up to a tag named in `ends`, whose name is then the current token; empty: up to the end.
  Body parse_body(std::initializer_list<std::string_view> ends) {
    const Nest nest(this);
    Body body;
    while (!at(TokenType::kEnd)) {
      if (at(TokenType::kData)) {
        Statement& statement = add(&body, StatementKind::kText);
        statement.text = next().text;
      } else if (at(TokenType::kPrintBegin)) {
        Statement& statement = add(&body, StatementKind::kPrint);
        next();
        statement.expression = parse_tuple();
        if (!at(TokenType::kPrintEnd)) fail_expected("'}}'");
        next();
      } else {
        next();  // the tag's beginning: the lexer lets nothing else stand here
        if (std::any_of(ends.begin(), ends.end(), [&](auto end) { return at_name(end); }))
          return body;
        parse_statement(&body, ends);
        expect_tag_end();
      }
    }
    if (ends.size() != 0) {
      const auto last = *(ends.end() - 1);
      fail(fmt::format("expected {{% {} %}}, found the end of the template", last));
    }
    return body;
  }

  Statement& add(Body* body, StatementKind kind) {
    body->emplace_back();
    body->back().kind = kind;
    body->back().offset = current().offset;
    return body->back();
  }

  // The body of a tag, from behind its head to behind the name of the tag that ends it.
  Body parse_block(std::initializer_list<std::string_view> ends) {
    skip_operator(":");
    expect_tag_end();
    return parse_body(ends);
  }

  void parse_statement(Body* body, std::initializer_list<std::string_view> ends) {
    if (!at(TokenType::kName)) fail_expected("the name of a tag");
    const std::string name = current().text;
    if (name == "if") return parse_if(body);
    if (name == "for") return parse_for(body);
    if (name == "set") return parse_set(body);
    if (name == "macro") return parse_macro(body);
    if (name == "call") return parse_call_block(body);
    if (name == "filter") return parse_filter_block(body);
    if (name == "with") return parse_with(body);
    if (name == "generation") return parse_generation(body);
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail(fmt::format("'{}' stands outside a loop", name));
      add(body, name == "break" ? StatementKind::kBreak : StatementKind::kContinue);
      next();
      return;
    }
    if (name == "print") return parse_print(body);
    for (const std::string_view known :
         {"block", "extends", "include", "import", "from", "autoescape"})
      if (name == known) fail(fmt::format("the tag '{}' is not offered in chat templates", name));
    if (ends.size() != 0)
      fail(fmt::format("expected {{% {} %}} before this, found the tag '{}'", *(ends.end() - 1),
                       name));
    fail(fmt::format("unknown tag '{}'", name));
  }

  void parse_if(Body* body) {
    Statement& statement = add(body, StatementKind::kIf);
    do {
      next();  // if, elif
      Branch branch;
      branch.condition = parse_tuple(false);
      branch.body = parse_block({"elif", "else", "endif"});
      statement.branches.push_back(std::move(branch));
    } while (at_name("elif"));
    if (skip_name("else")) statement.body_else = parse_block({"endif"});
    next();
  }

  void parse_for(Body* body) {
    Statement& statement = add(body, StatementKind::kFor);
    next();
    statement.target = parse_target(true, false);
    if (!skip_name("in")) fail_expected("'in'");
    statement.expression = parse_tuple(false, "recursive");
    if (skip_name("if")) statement.filter = parse_expression();
    if (at_name("recursive")) fail("recursive loops are not offered in chat templates");
    ++loops_;
    statement.body = parse_block({"else", "endfor"});
    --loops_;
    if (skip_name("else")) statement.body_else = parse_block({"endfor"});
    next();
  }

  void parse_set(Body* body) {
    Statement& statement = add(body, StatementKind::kSet);
    next();
    statement.target = parse_target(false, true);
    if (skip_operator("=")) {
      statement.expression = parse_tuple();
      return;
    }
    statement.kind = StatementKind::kSetBlock;
    if (at_operator("|")) statement.filter = parse_filters(nullptr);
    statement.body = parse_block({"endset"});
    next();
  }

  // The body of something that is called: loops outside cannot be left from within.
  Body parse_callable(MacroDefinition* macro, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    macros_.push_back(macro);
    Body body = parse_block({end});
    macros_.pop_back();
    loops_ = loops;
    next();
    return body;
  }

  void parse_signature(MacroDefinition* macro) {
    expect_operator("(");
    macros_.push_back(macro);
    while (!at_operator(")")) {
      if (!macro->parameters.empty()) expect_operator(",");
      const size_t offset = current().offset;
      Parameter parameter{expect_name(), nullptr};
      if (skip_operator("="))
        parameter.default_value = parse_expression();
      else if (!macro->parameters.empty() && macro->parameters.back().default_value)
        fail(fmt::format("expected a default for '{}': the parameter before it has one",
                         parameter.name),
             offset);
      for (const Parameter& other : macro->parameters)
        if (other.name == parameter.name)
          fail(fmt::format("the parameter '{}' stands here twice", parameter.name), offset);
      macro->parameters.push_back(std::move(parameter));
    }
    macros_.pop_back();
    next();
  }

  void parse_macro(Body* body) {
    Statement& statement = add(body, StatementKind::kMacro);
    next();
    statement.macro = std::make_unique<MacroDefinition>();
    const size_t offset = current().offset;
    statement.macro->name = expect_name();
    check_assignable(statement.macro->name, offset);
    parse_signature(statement.macro.get());
    statement.macro->body = parse_callable(statement.macro.get(), "endmacro");
  }

  void parse_call_block(Body* body) {
    Statement& statement = add(body, StatementKind::kCallBlock);
    next();
    statement.macro = std::make_unique<MacroDefinition>();
    statement.macro->name = "caller";
    if (at_operator("(")) parse_signature(statement.macro.get());
    statement.expression = parse_expression();
    if (statement.expression->kind != Kind::kCall)
      fail("expected a call in this tag, found another expression", statement.offset);
    statement.macro->body = parse_callable(statement.macro.get(), "endcall");
  }

  void parse_filter_block(Body* body) {
    Statement& statement = add(body, StatementKind::kFilterBlock);
    next();
    statement.filter = parse_filters(parse_one_filter(nullptr));
    statement.body = parse_block({"endfilter"});
    next();
  }

  void parse_with(Body* body) {
    Statement& statement = add(body, StatementKind::kWith);
    next();
    while (!at(TokenType::kTagEnd) && !at_operator(":")) {
      if (!statement.assignments.empty()) expect_operator(",");
      Target target = parse_target(false, false);
      expect_operator("=");
      statement.assignments.emplace_back(std::move(target), parse_expression());
    }
    statement.body = parse_block({"endwith"});
    next();
  }

  // {% generation %} marks what the assistant wrote; the text passes through.
  void parse_generation(Body* body) {
    Statement& statement = add(body, StatementKind::kScope);
    next();
    const int loops = std::exchange(loops_, 0);
    statement.body = parse_block({"endgeneration"});
    loops_ = loops;
    next();
  }

  void parse_print(Body* body) {
    next();
    bool is_first = true;
    while (!at(TokenType::kTagEnd)) {
      if (!is_first) expect_operator(",");
      is_first = false;
      Statement& statement = add(body, StatementKind::kPrint);
      statement.expression = parse_expression();
    }
  }

  // ---- targets ----
  void check_assignable(const std::string& name, size_t offset) const {
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
      if (name == constant) fail(fmt::format("cannot assign to '{}'", name), offset);
  }

  bool at_target_end(bool before_in) const {
    return at(TokenType::kTagEnd) || at(TokenType::kPrintEnd) || at_operator(")") ||
           (before_in && at_name("in"));
  }

  Target parse_one_target(bool with_attribute) {
    const Nest nest(this);
    Target target;
    target.offset = current().offset;
    if (skip_operator("(")) {
      target = parse_target(false, with_attribute);
      expect_operator(")");
      return target;
    }
    target.name = expect_name();
    check_assignable(target.name, target.offset);
    if (with_attribute && skip_operator(".")) target.attribute = expect_name();
    return target;
  }

  Target parse_target(bool before_in, bool with_attribute) {
    Target tuple;
    tuple.offset = current().offset;
    while (true) {
      if (!tuple.parts.empty()) {
        if (!skip_operator(",")) break;
        tuple.is_tuple = true;
        if (at_target_end(before_in)) break;
      }
      tuple.parts.push_back(parse_one_target(with_attribute));
    }
    if (tuple.is_tuple) return tuple;
    Target only = std::move(tuple.parts.front());
    return only;
  }

  // ---- expressions, loosest first ----
  ExpressionPtr make(Kind kind, size_t offset) const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->offset = offset;
    return node;
  }

  void grow(Expression* node, const Expression& child) const {
    node->depth = std::max(node->depth, child.depth + 1);
    if (node->depth > kMaxSyntaxDepth)
      fail(fmt::format("expected at most {} levels of nested operations, found more",
                       kMaxSyntaxDepth),
           node->offset);
  }

  void adopt(Expression* node, ExpressionPtr child) const {
    if (child) grow(node, *child);
    node->items.push_back(std::move(child));
  }

  ExpressionPtr make(Kind kind, size_t offset, ExpressionPtr first,
                     ExpressionPtr second = nullptr) const {
    auto node = make(kind, offset);
    adopt(node.get(), std::move(first));
    if (second) adopt(node.get(), std::move(second));
    return node;
  }

  bool at_tuple_end(std::string_view end_name) const {
    return at(TokenType::kPrintEnd) || at(TokenType::kTagEnd) || at_operator(")") ||
           (!end_name.empty() && at_name(end_name));
  }

  // One expression, or several with commas: a tuple.
  ExpressionPtr parse_tuple(bool with_conditional = true, std::string_view end_name = {},
                            bool in_parentheses = false) {
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

  ExpressionPtr parse_expression() {
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

  ExpressionPtr parse_or() {
    ExpressionPtr left = parse_and();
    while (at_name("or")) {
      const size_t offset = next().offset;
      left = make(Kind::kOr, offset, std::move(left), parse_and());
    }
    return left;
  }

  ExpressionPtr parse_and() {
    ExpressionPtr left = parse_not();
    while (at_name("and")) {
      const size_t offset = next().offset;
      left = make(Kind::kAnd, offset, std::move(left), parse_not());
    }
    return left;
  }

  ExpressionPtr parse_not() {
    if (!at_name("not")) return parse_compare();
    const Nest nest(this);
    const size_t offset = next().offset;
    return make(Kind::kNot, offset, parse_not());
  }

  std::string parse_compare_operator() {
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

  ExpressionPtr parse_compare() {
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

  bool at_any(std::initializer_list<std::string_view> symbols) const {
    return at(TokenType::kOperator) &&
           std::find(symbols.begin(), symbols.end(), current().text) != symbols.end();
  }

  ExpressionPtr make_binary(const Token& symbol, ExpressionPtr left, ExpressionPtr right) const {
    auto node = make(Kind::kBinary, symbol.offset, std::move(left), std::move(right));
    node->name = symbol.text;
    return node;
  }

  ExpressionPtr parse_sum() {
    ExpressionPtr left = parse_concat();
    while (at_any({"+", "-"})) {
      const Token& symbol = next();
      left = make_binary(symbol, std::move(left), parse_concat());
    }
    return left;
  }

  ExpressionPtr parse_concat() {
    ExpressionPtr left = parse_product();
    if (!at_operator("~")) return left;
    auto node = make(Kind::kConcat, current().offset, std::move(left));
    while (skip_operator("~")) adopt(node.get(), parse_product());
    return node;
  }

  ExpressionPtr parse_product() {
    ExpressionPtr left = parse_power();
    while (at_any({"*", "/", "//", "%"})) {
      const Token& symbol = next();
      left = make_binary(symbol, std::move(left), parse_power());
    }
    return left;
  }

  ExpressionPtr parse_power() {
    ExpressionPtr left = parse_unary(true);
    while (at_any({"**"})) {
      const Token& symbol = next();
      left = make_binary(symbol, std::move(left), parse_unary(true));
    }
    return left;
  }

  ExpressionPtr parse_unary(bool with_filters) {
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

  ExpressionPtr make_constant(Value value, size_t offset) const {
    auto node = make(Kind::kConstant, offset);
    node->value = std::move(value);
    return node;
  }

  ExpressionPtr parse_name() {
    const Token& token = next();
    const std::string& name = token.text;
    if (name == "true" || name == "True") return make_constant(Value::boolean(true), token.offset);
    if (name == "false" || name == "False")
      return make_constant(Value::boolean(false), token.offset);
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

  ExpressionPtr parse_primary() {
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

  ExpressionPtr parse_list() {
    auto node = make(Kind::kList, next().offset);
    while (!at_operator("]")) {
      if (!node->items.empty()) expect_operator(",");
      if (at_operator("]")) break;
      adopt(node.get(), parse_expression());
    }
    next();
    return node;
  }

  ExpressionPtr parse_dict() {
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

  ExpressionPtr parse_postfix(ExpressionPtr node) {
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

  ExpressionPtr parse_attribute(ExpressionPtr object) {
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

  ExpressionPtr parse_subscript(ExpressionPtr object) {
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

  ExpressionPtr parse_call(ExpressionPtr callee) {
    auto node = make(Kind::kCall, current().offset, std::move(callee));
    parse_arguments(node.get());
    return node;
  }

  ExpressionPtr checked(Expression* node, ExpressionPtr argument) const {
    grow(node, *argument);
    return argument;
  }

  void parse_arguments(Expression* node) {
    CallArguments& arguments = node->arguments;
    const auto ensure = [&](bool holds) {
      if (!holds)
        fail("expected positional arguments before named ones and *, found another order");
    };
    expect_operator("(");
    bool is_first = true;
    while (!at_operator(")")) {
      if (!is_first) {
        expect_operator(",");
        if (at_operator(")")) break;
      }
      is_first = false;
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

  std::string parse_dotted_name() {
    std::string name = expect_name();
    while (skip_operator(".")) name += "." + expect_name();
    return name;
  }

  ExpressionPtr parse_one_filter(ExpressionPtr value) {
    auto node = make(Kind::kFilter, current().offset, std::move(value));
    node->name = parse_dotted_name();
    if (at_operator("(")) parse_arguments(node.get());
    return node;
  }

  ExpressionPtr parse_filters(ExpressionPtr node) {
    while (skip_operator("|")) node = parse_one_filter(std::move(node));
    return node;
  }

  ExpressionPtr parse_filters_and_tests(ExpressionPtr node) {
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

  bool at_test_argument() const {
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

  ExpressionPtr parse_test(ExpressionPtr value) {
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

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;
  std::vector<MacroDefinition*> macros_;
};

}  // namespace

Body parse_template(std::string_view source) { return Parser(source).run(); }

}  // namespace kvasir::text::jinja

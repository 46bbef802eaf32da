#pragma once
// Tokens to expressions: what the parser of statements is built on.

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace kvasir::text::jinja {

// Recursive descent over the tokens of one template. Every method fails with SyntaxFailure.
class ExpressionParser {
 protected:
  explicit ExpressionParser(std::string_view source) : tokens_(tokenize(source)) {}

  // Counts nesting for as long as it lives.
  class Nest {
   public:
    explicit Nest(ExpressionParser* parser);
    ~Nest() { --parser_->nesting_; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    ExpressionParser* parser_;
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
  [[noreturn]] void fail_expected(std::string_view what) const;
  void expect_operator(std::string_view text);
  std::string expect_name();
  void expect_tag_end();

  // One expression, or several with commas: a tuple.
  ExpressionPtr parse_tuple(bool with_conditional = true, std::string_view end_name = {},
                            bool in_parentheses = false);
  ExpressionPtr parse_expression();
  // name(arguments), applied to `value`.
  ExpressionPtr parse_one_filter(ExpressionPtr value);
  // | name(arguments) | ..., from the bar on.
  ExpressionPtr parse_filters(ExpressionPtr node);

  // The macros whose text is being read, outermost first: names that they use mark them.
  std::vector<MacroDefinition*> macros_;

 private:
  using Kind = ExpressionKind;

  ExpressionPtr make(Kind kind, size_t offset) const;
  ExpressionPtr make(Kind kind, size_t offset, ExpressionPtr first,
                     ExpressionPtr second = nullptr) const;
  ExpressionPtr make_binary(const Token& symbol, ExpressionPtr left, ExpressionPtr right) const;
  ExpressionPtr make_constant(Value value, size_t offset) const;
  // The node holds the child: its depth grows, up to kMaxSyntaxDepth.
  void grow(Expression* node, const Expression& child) const;
  void adopt(Expression* node, ExpressionPtr child) const;
  ExpressionPtr checked(Expression* node, ExpressionPtr argument) const;

  bool at_tuple_end(std::string_view end_name) const;
  bool at_any(std::initializer_list<std::string_view> symbols) const;
  bool at_test_argument() const;

  // Loosest first.
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  std::string parse_compare_operator();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_attribute(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_call(ExpressionPtr callee);
  void parse_arguments(Expression* node);
  std::string parse_dotted_name();
  ExpressionPtr parse_filters_and_tests(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr value);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace kvasir::text::jinja

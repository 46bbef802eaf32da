#include "text/jinja_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "text/jinja_expression_parser.h"

namespace kvasir::text::jinja {
namespace {

class TemplateParser : private ExpressionParser {
 public:
  explicit TemplateParser(std::string_view source) : ExpressionParser(source) {}

  Body run() { return parse_body({}); }

 private:
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
      if (macro->parameters.size() >= kMaxArguments)
        fail(fmt::format("expected at most {} parameters, found more", kMaxArguments));
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
    if (statement.expression->kind != ExpressionKind::kCall)
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

  int loops_ = 0;  // around what is being read, up to a macro
};

}  // namespace

Body parse_template(std::string_view source) { return TemplateParser(source).run(); }

}  // namespace kvasir::text::jinja

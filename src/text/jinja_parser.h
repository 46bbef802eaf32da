#pragma once
// Tokens to a syntax tree.

#include <string_view>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace kvasir::text::jinja {

inline constexpr int kMaxSyntaxDepth = 150;

// The statements of a normalised source. Throws SyntaxFailure; the tree nests at most
// kMaxSyntaxDepth levels deep.
Body parse_template(std::string_view source);

}  // namespace kvasir::text::jinja

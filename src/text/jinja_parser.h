#pragma once
// Tokens to a syntax tree.

#include <cstddef>
#include <string_view>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace kvasir::text::jinja {

inline constexpr int kMaxSyntaxDepth = 150;
inline constexpr size_t kMaxArguments = 250;  // of one call, and parameters of one macro
inline constexpr size_t kMaxSourceBytes = 1 << 20;

// The statements of a normalised source. Throws SyntaxFailure; the tree nests at most
// kMaxSyntaxDepth levels deep.
Body parse_template(std::string_view source);

}  // namespace kvasir::text::jinja

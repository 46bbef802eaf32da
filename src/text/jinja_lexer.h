#pragma once
// Template text to tokens, with Jinja's white space rules for trim_blocks and lstrip_blocks.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvasir::text::jinja {

enum class TokenType {
  kData,
  kPrintBegin,
  kPrintEnd,
  kTagBegin,
  kTagEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;  // content of data and strings, name, operator
  int64_t integer = 0;
  double real = 0;
  size_t offset = 0;  // bytes into the normalised source
};

// A failure to read the template, at a place in the normalised source.
struct SyntaxFailure {
  std::string message;
  size_t offset;
};

// Newlines as \n, and without the last one: what offsets refer to.
std::string normalize_source(std::string_view source);

// The tokens of a normalised source, the last of type kEnd. Throws SyntaxFailure.
std::vector<Token> tokenize(std::string_view source);

// "line 3, column 14" (both from 1; columns in characters).
std::string describe_place(std::string_view source, size_t offset);

}  // namespace kvasir::text::jinja

#pragma once
// Sets of characters that the package `tokenizers` keeps as of Unicode 8 and 9, whatever the
// version of the property tables in use: its ids depend on them.

namespace kvasir::text {

bool is_punctuation(char32_t code_point);      // categories P* and the ASCII symbols
bool is_mark(char32_t code_point);             // categories Mn, Mc, Me
bool is_nonspacing_mark(char32_t code_point);  // category Mn
bool is_control(char32_t code_point);          // categories Cc, Cf, Co

}  // namespace kvasir::text

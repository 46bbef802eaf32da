#pragma once
// The little of UTF-8 that text for people needs.

#include <cstdint>
#include <optional>
#include <string_view>

namespace kvasir {

// Where the text stops being UTF-8 (byte offset), or nothing where it is whole. Overlong forms,
// surrogates and code points above U+10FFFF are errors.
std::optional<size_t> invalid_utf8_at(std::string_view text);

// Code points of valid UTF-8.
int64_t count_code_points(std::string_view text);

}  // namespace kvasir

#pragma once
// What the JSON library says of a text, for people.

#include <string>
#include <string_view>

namespace kvasir::formats {

// "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without its number.
inline std::string json_reason(std::string_view what) {
  if (what.starts_with("[json.exception"))
    if (const size_t end = what.find("] "); end != std::string_view::npos)
      what.remove_prefix(end + 2);
  return std::string(what);
}

}  // namespace kvasir::formats

#pragma once
// Texts that should be JSON, from outside: parsed within bounds, with errors for people.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "formats/json_reason.h"

namespace kvasir::formats {

// Runs read(json, origin) on the parsed text; what is thrown becomes the Result's error. `expected`
// says in errors what the text should be: "a JSON object".
template <class Value, class Read>
Result<Value> read_json(std::string_view text, std::string_view origin, std::string_view expected,
                        Read&& read) {
  const auto malformed = [&](const std::string& found) {
    return Error(ErrorCode::kMalformed, "expected " + std::string(expected) + ", found " + found,
                 std::string(origin));
  };
  int nesting = 0;
  for (const char letter : text) {  // a bound on depth, before any parser recurses
    nesting += letter == '{' || letter == '[' ? 1 : letter == '}' || letter == ']' ? -1 : 0;
    if (nesting > 256) return malformed("nesting deeper than 256");
  }
  try {
    return Value(read(nlohmann::json::parse(text), std::string(origin)));
  } catch (const Error& error) {
    return error;
  } catch (const nlohmann::json::exception& error) {
    return malformed("none: " + json_reason(error.what()));
  }
}

}  // namespace kvasir::formats

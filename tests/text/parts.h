#pragma once
// Parts of a tokenizer from JSON written in a test.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kvasir/error.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace kvasir::text {

// The part that `Part::parse` makes of JSON text.
template <class Part>
Part parse_part(std::string_view json) {
  const Json document = Json::parse(json);
  return Part::parse(JsonNode(document, "test"));
}

// The message of the Error that `body` throws; "" if none.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline std::string normalize(std::string_view json, std::string_view text) {
  return parse_part<Normalizer>(json).apply(text, true).text;
}

inline std::vector<std::string> words(std::string_view json, std::string_view text,
                                      bool at_origin = true) {
  std::vector<std::string> out;
  auto collect = [&](Piece piece) { out.emplace_back(piece.text); };
  auto pre_tokenizer = parse_part<PreTokenizer>(json);
  pre_tokenizer.take_byte_level();
  pre_tokenizer.split({text, at_origin && !text.empty() ? size_t{1} : 0}, PieceSink(collect));
  return out;
}

inline Tokenizer parse_tokenizer(std::string_view json) {
  return Tokenizer::parse(json, "test").value();
}

}  // namespace kvasir::text

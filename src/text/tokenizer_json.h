#pragma once
// Reading tokenizer.json: typed access to JSON values with errors that name the place.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace kvasir::text {

using Json = nlohmann::json;

// A JSON value and its place in the file ("tokenizer.json: pre_tokenizer.pretokenizers[0]"). All
// accessors throw Error{kMalformed} that says what was expected and found. Borrows the value.
class JsonNode {
 public:
  JsonNode(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const Json& value() const { return *value_; }
  const std::string& where() const { return where_; }

  bool is_null() const;
  bool has(std::string_view key) const;  // an object with that key, not null
  size_t size() const;                   // of an array
  JsonNode at(std::string_view key) const;
  JsonNode at(size_t index) const;

  const std::string& string(std::string_view key) const;
  std::string string_or(std::string_view key, std::string_view fallback) const;
  bool boolean(std::string_view key) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  const std::string& as_string() const;
  int64_t as_integer(int64_t low, int64_t high) const;
  char32_t character(std::string_view key) const;  // a string of exactly one character

  void require_object() const;
  void require_array() const;
  [[noreturn]] void malformed(std::string_view expected) const;
  [[noreturn]] void unsupported(std::string_view found, std::string_view supported) const;

 private:
  const Json* value_;
  std::string where_;
};

// A step that rewrites text has made `bytes` of `original`. Throws Error{kResourceExhausted} where
// no sensible file does: replacements that are long or chained can grow text without bound.
void check_growth(size_t bytes, size_t original);

}  // namespace kvasir::text

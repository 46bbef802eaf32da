#include "text/tokenizer_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "kvasir/error.h"
#include "text/unicode.h"

namespace kvasir::text {

bool JsonNode::is_null() const { return value_->is_null(); }

bool JsonNode::has(std::string_view key) const {
  if (!value_->is_object()) return false;
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

size_t JsonNode::size() const {
  require_array();
  return value_->size();
}

void JsonNode::require_object() const {
  if (!value_->is_object()) malformed("an object");
}

void JsonNode::require_array() const {
  if (!value_->is_array()) malformed("an array");
}

void JsonNode::malformed(std::string_view expected) const {
  std::string found = value_->type_name();
  if (value_->is_object()) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : value_->items()) {
      if (keys.size() < 8) keys.push_back(key.substr(0, 40));
    }
    found = to_valid_utf8(fmt::format("an object with the keys [{}{}]", fmt::join(keys, ", "),
                                      keys.size() < value_->size() ? ", ..." : ""));
  } else if (value_->is_string() || value_->is_number() || value_->is_boolean()) {
    found = value_->dump(-1, ' ', false, Json::error_handler_t::replace);
    if (found.size() > 80) found.resize(80);
    found = to_valid_utf8(found);
  }
  throw Error(ErrorCode::kMalformed,
              fmt::format("expected {}, found {}; is the file damaged?", expected, found), where_);
}

void JsonNode::unsupported(std::string_view found, std::string_view supported) const {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("\"{}\" is not supported; supported: {}", found, supported), where_);
}

JsonNode JsonNode::at(std::string_view key) const {
  require_object();
  const auto found = value_->find(key);
  if (found == value_->end()) malformed(fmt::format("an object with the key \"{}\"", key));
  return {*found, fmt::format("{}.{}", where_, key)};
}

JsonNode JsonNode::at(size_t index) const {
  return {(*value_)[index], fmt::format("{}[{}]", where_, index)};
}

const std::string& JsonNode::as_string() const {
  if (!value_->is_string()) malformed("a string");
  return value_->get_ref<const std::string&>();
}

const std::string& JsonNode::string(std::string_view key) const { return at(key).as_string(); }

std::string JsonNode::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : std::string(fallback);
}

bool JsonNode::boolean(std::string_view key) const {
  const JsonNode node = at(key);
  if (!node.value_->is_boolean()) node.malformed("true or false");
  return node.value_->get<bool>();
}

bool JsonNode::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

int64_t JsonNode::as_integer(int64_t low, int64_t high) const {
  const std::string expected = fmt::format("an integer from {} to {}", low, high);
  if (!value_->is_number_integer()) malformed(expected);
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    malformed(expected);
  }
  const auto number = value_->get<int64_t>();
  if (number < low || number > high) malformed(expected);
  return number;
}

int64_t JsonNode::integer(std::string_view key, int64_t low, int64_t high) const {
  return at(key).as_integer(low, high);
}

char32_t JsonNode::character(std::string_view key) const {
  const JsonNode node = at(key);
  const std::string& text = node.as_string();
  size_t end = 0;
  if (text.empty()) node.malformed("a string of one character");
  const char32_t c = next_code_point(text, end);
  if (end != text.size()) node.malformed("a string of one character");
  return c;
}

void check_growth(size_t bytes, size_t original) {
  constexpr size_t kFactor = 64, kAlways = 64 << 10;
  if (bytes <= kAlways + original * kFactor) return;
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("expected steps that make at most {} bytes of {}, found at least {}; is "
                          "the file hostile?",
                          kAlways + original * kFactor, original, bytes),
              "tokenizer");
}

}  // namespace kvasir::text

#pragma once
// Typed reading of a JSON object with errors that name key, expected and found. For .cpp files
// only.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kvasir/error.h"

namespace kvasir::formats {

// Throws Error{kMalformed}; parse functions turn it into a Result at their edge.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& object, std::string origin)
      : object_(object), origin_(std::move(origin)) {}

  // Null counts as absent, as in Python.
  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  bool is_null(const char* key) const { return object_.contains(key) && object_[key].is_null(); }
  const nlohmann::json& at(const char* key) const { return object_[key]; }
  const std::string& origin() const { return origin_; }

  int64_t integer(const char* key, int64_t low, int64_t high,
                  std::optional<int64_t> fallback) const {
    if (!has(key)) {
      if (fallback) return *fallback;
      fail(key, "a whole number", "nothing");
    }
    return checked_integer(object_[key], key, low, high);
  }

  double number(const char* key, double low, double high, std::optional<double> fallback) const {
    if (!has(key)) {
      if (fallback) return *fallback;
      fail(key, "a number", "nothing");
    }
    const nlohmann::json& value = object_[key];
    if (!value.is_number()) fail(key, "a number", value.dump());
    const double found = value.get<double>();
    if (!std::isfinite(found) || found < low || found > high)
      fail(key, fmt::format("a number from {:g} to {:g}", low, high), value.dump());
    return found;
  }

  std::vector<double> numbers(const char* key, int64_t count, double low, double high) const {
    const std::string expected =
        fmt::format("a list of {} numbers from {:g} to {:g}", count, low, high);
    if (!has(key)) fail(key, expected, "nothing");
    const nlohmann::json& list = object_[key];
    if (!list.is_array() || static_cast<int64_t>(list.size()) != count)
      fail(key, expected, list.is_array() ? fmt::format("a list of {}", list.size()) : list.dump());
    std::vector<double> values;
    for (const nlohmann::json& value : list) {
      const double found = value.is_number() ? value.get<double>() : NAN;
      if (!(found >= low && found <= high)) fail(key, expected, value.dump());
      values.push_back(found);
    }
    return values;
  }

  std::optional<double> optional_number(const char* key, double low, double high) const {
    if (!has(key)) return std::nullopt;
    return number(key, low, high, std::nullopt);
  }

  bool boolean(const char* key, bool fallback) const {
    if (!has(key)) return fallback;
    if (!object_[key].is_boolean()) fail(key, "true or false", object_[key].dump());
    return object_[key].get<bool>();
  }

  std::string text(const char* key, std::string fallback) const {
    if (!has(key)) return fallback;
    if (!object_[key].is_string()) fail(key, "text", object_[key].dump());
    return object_[key].get<std::string>();
  }

  std::optional<int32_t> token(const char* key) const {
    if (!has(key)) return std::nullopt;
    return static_cast<int32_t>(checked_integer(object_[key], key, 0, INT32_MAX));
  }

  // A token id or a list of them.
  std::vector<int32_t> tokens(const char* key) const {
    std::vector<int32_t> ids;
    if (!has(key)) return ids;
    const nlohmann::json& value = object_[key];
    if (!value.is_array()) return {*token(key)};
    for (const nlohmann::json& id : value)
      ids.push_back(static_cast<int32_t>(checked_integer(id, key, 0, INT32_MAX)));
    return ids;
  }

  [[noreturn]] void fail(const char* key, const std::string& expected, std::string found) const {
    if (found.size() > 80) found = found.substr(0, 77) + "...";
    throw Error(ErrorCode::kMalformed,
                fmt::format("{}: expected {}, found {}", key, expected, found), origin_);
  }

 private:
  int64_t checked_integer(const nlohmann::json& value, const char* key, int64_t low,
                          int64_t high) const {
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
    if (!fits || value.get<int64_t>() < low || value.get<int64_t>() > high)
      fail(key, fmt::format("a whole number from {} to {}", low, high), value.dump());
    return value.get<int64_t>();
  }

  const nlohmann::json& object_;
  std::string origin_;
};

}  // namespace kvasir::formats

#pragma once
// Typed reading of a TOML table with errors that name file, line, field, expected and found. For
// .cpp files only: the library is heavy.

// The program shall need no shared library for this.
#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/suggest.h"
#include "kvasir/error.h"

namespace kvasir::data {

class TomlReader {
 public:
  // `name`: of the table in the file, "" for the whole. Borrows the table.
  TomlReader(const toml::table& table, std::string name, std::string origin)
      : table_(table), name_(std::move(name)), origin_(std::move(origin)) {}

  bool has(const char* key) {
    known_.emplace_back(key);
    return table_.contains(key);
  }
  const std::string& origin() const { return origin_; }

  int64_t integer(const char* key, int64_t low, int64_t high,
                  std::optional<int64_t> fallback = {}) {
    const toml::node* node = find(key, "a whole number", fallback.has_value());
    if (node == nullptr) return *fallback;
    return checked_integer(*node, key, low, high);
  }

  double number(const char* key, double low, double high, std::optional<double> fallback = {}) {
    const toml::node* node = find(key, "a number", fallback.has_value());
    if (node == nullptr) return *fallback;
    const std::optional<double> value = node->value<double>();
    if (!node->is_number() || !value || !(*value >= low && *value <= high))
      refuse(key, *node, number_range(low, high));
    return *value;
  }

  bool boolean(const char* key, bool fallback) {
    const toml::node* node = find(key, "true or false", true);
    if (node == nullptr) return fallback;
    if (!node->is_boolean()) refuse(key, *node, "true or false");
    return **node->as_boolean();
  }

  std::string text(const char* key, std::optional<std::string> fallback = {}) {
    const toml::node* node = find(key, "a text", fallback.has_value());
    if (node == nullptr) return *fallback;
    if (!node->is_string() || node->as_string()->get().empty()) refuse(key, *node, "a text");
    return node->as_string()->get();
  }

  // The place of the value in `words`.
  size_t choice(const char* key, std::span<const std::string> words, size_t fallback) {
    const toml::node* node = find(key, "", true);
    if (node == nullptr) return fallback;
    const std::string value = node->is_string() ? node->as_string()->get() : std::string{};
    const auto place = std::find(words.begin(), words.end(), value);
    if (place == words.end())
      refuse(key, *node, fmt::format("one of {}", fmt::join(words, ", ")),
             node->is_string() ? did_you_mean(value, words) : "");
    return static_cast<size_t>(place - words.begin());
  }

  std::vector<std::string> texts(const char* key) {
    std::vector<std::string> values;
    for_each(key, "a list of texts", [&](const toml::node& node) {
      if (!node.is_string() || node.as_string()->get().empty()) return false;
      values.push_back(node.as_string()->get());
      return true;
    });
    return values;
  }

  std::vector<int64_t> integers(const char* key, int64_t low, int64_t high) {
    std::vector<int64_t> values;
    for_each(key, "a list of whole numbers", [&](const toml::node& node) {
      values.push_back(checked_integer(node, key, low, high));
      return true;
    });
    return values;
  }

  // A table inside this one; null where there is none.
  std::optional<TomlReader> table(const char* key) {
    const toml::node* node = find(key, "", true);
    if (node == nullptr) return {};
    if (!node->is_table()) refuse(key, *node, fmt::format("a table, [{}]", path(key)));
    return TomlReader(*node->as_table(), path(key), origin_);
  }

  // The tables of a list [[key]].
  std::vector<TomlReader> tables(const char* key) {
    std::vector<TomlReader> list;
    const std::string expected = fmt::format("tables, [[{}]]", path(key));
    for_each(key, expected, [&](const toml::node& node) {
      if (!node.is_table()) return false;
      list.emplace_back(*node.as_table(), fmt::format("{}[{}]", path(key), list.size()), origin_);
      return true;
    });
    return list;
  }

  // All keys of the table with a number each, which must be among `known`.
  template <class Take>
  void numbers(std::span<const std::string> known, double low, double high, Take&& take) {
    known_.assign(known.begin(), known.end());
    finish();
    for (const auto& [key, node] : table_) {
      const std::string name(key.str());
      take(name, number(name.c_str(), low, high));
    }
  }

  // Refuses the first key that nothing has asked for.
  void finish() const {
    const toml::key* unknown = nullptr;
    for (const auto& [key, node] : table_) {
      if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
      if (unknown == nullptr || key.source().begin < unknown->source().begin) unknown = &key;
    }
    if (unknown == nullptr) return;
    const std::string near = did_you_mean(unknown->str(), known_);
    fail(unknown->str(), unknown->source(),
         "unknown key" +
             (near.empty() ? fmt::format("; known here: {}", fmt::join(known_, ", ")) : near));
  }

  // What is wrong with the value of `key` (or, where it is absent, with the table).
  [[noreturn]] void fail(std::string_view key, std::string_view message) const {
    const toml::node* node = table_.get(key);
    fail(key, node != nullptr ? node->source() : table_.source(), message);
  }

 private:
  std::string path(std::string_view key) const {
    return name_.empty() || key.empty() ? name_ + std::string(key)
                                        : fmt::format("{}.{}", name_, key);
  }

  const toml::node* find(const char* key, std::string_view expected, bool is_optional) {
    known_.emplace_back(key);
    const toml::node* node = table_.get(key);
    if (node != nullptr || is_optional) return node;
    std::vector<std::string> others;
    for (const auto& [name, value] : table_) others.emplace_back(name.str());
    const std::string near = nearest(key, others);
    fail(key, fmt::format("expected {}, found nothing{}", expected,
                          near.empty() ? "" : fmt::format(" but '{}'", near)));
  }

  template <class Take>
  void for_each(const char* key, std::string_view expected, Take&& take) {
    const toml::node* node = find(key, expected, true);
    if (node == nullptr) return;
    if (!node->is_array()) refuse(key, *node, expected);
    for (const toml::node& each : *node->as_array())
      if (!take(each)) refuse(key, each, expected);
  }

  int64_t checked_integer(const toml::node& node, const char* key, int64_t low, int64_t high) {
    const auto* value = node.as_integer();
    if (value == nullptr || value->get() < low || value->get() > high)
      refuse(key, node, fmt::format("a whole number {}", range(low, high, INT64_MAX)));
    return value->get();
  }

  static std::string number_range(double low, double high) {
    return "a number " + range(low, high, HUGE_VAL);
  }
  template <class T>
  static std::string range(T low, T high, T no_limit) {
    return high == no_limit ? fmt::format("of at least {}", low)
                            : fmt::format("from {} to {}", low, high);
  }

  static std::string found(const toml::node& node) {
    if (const auto* text = node.as_string()) {
      const std::string& value = text->get();
      return fmt::format("\"{}\"", value.size() > 60 ? value.substr(0, 57) + "..." : value);
    }
    if (const auto* value = node.as_integer()) return fmt::format("{}", value->get());
    if (const auto* value = node.as_floating_point()) return fmt::format("{}", value->get());
    if (const auto* value = node.as_boolean()) return value->get() ? "true" : "false";
    return node.is_array() ? "a list" : node.is_table() ? "a table" : "a date or time";
  }

  [[noreturn]] void refuse(const char* key, const toml::node& node, std::string_view expected,
                           std::string_view suggestion = {}) const {
    fail(key, node.source(),
         fmt::format("expected {}, found {}{}", expected, found(node), suggestion));
  }

  [[noreturn]] void fail(std::string_view key, const toml::source_region& place,
                         std::string_view message) const {
    throw Error(ErrorCode::kMalformed, fmt::format("{}: {}", path(key), message),
                place.begin.line > 0 ? fmt::format("{}:{}", origin_, place.begin.line) : origin_);
  }

  const toml::table& table_;
  std::string name_, origin_;
  std::vector<std::string> known_;
};

}  // namespace kvasir::data

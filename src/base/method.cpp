#include "base/method.h"

#include <algorithm>

namespace kvasir {

std::string method_text(const MethodChoice& choice) {
  std::string text = choice.name;
  char separator = ':';
  for (const auto& [key, value] : choice.options) {
    text += separator + key + "=" + value;
    separator = ',';
  }
  return text;
}

const Method* find_method(std::span<const Method> table, std::string_view name) {
  const auto row = std::find_if(table.begin(), table.end(),
                                [name](const Method& method) { return method.name == name; });
  return row == table.end() ? nullptr : &*row;
}

Result<void> check_method_options(const Method& method, std::string_view stage,
                                  const std::map<std::string, std::string>& options) {
  for (const auto& [key, value] : options) {
    const auto known = std::find_if(method.options.begin(), method.options.end(),
                                    [&](const MethodOption& option) { return option.name == key; });
    const std::string place =
        "--" + std::string(stage) + " " + std::string(method.name) + ":" + key;
    if (known == method.options.end()) {
      std::string names;
      for (const MethodOption& option : method.options)
        names += (names.empty() ? "" : ", ") + std::string(option.name);
      return Error(ErrorCode::kInvalidArgument,
                   names.empty() ? "the method takes no options, found \"" + key + "\""
                                 : "expected one of " + names + ", found \"" + key + "\"",
                   place);
    }
    if (auto checked = known->check(value); !checked)
      return Error(checked.error().code(), checked.error().message(), place);
  }
  return {};
}

}  // namespace kvasir

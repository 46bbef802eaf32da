#pragma once
// Lists as Python prints them: some published prompts hold such text.

#include <string>
#include <vector>

namespace kvasir::tasks {

// ['ABCDE', 'FGHIJ']; an item with a single quote and no double one stands in double quotes.
inline std::string python_list(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const std::string& item : items) {
    if (text.size() > 1) text += ", ";
    const bool has_single = item.find('\'') != std::string::npos;
    const char quote = has_single && item.find('"') == std::string::npos ? '"' : '\'';
    text += quote;
    for (const char letter : item) {
      if (letter == '\\' || letter == quote) text += '\\';
      if (letter == '\n')
        text += "\\n";
      else
        text += letter;
    }
    text += quote;
  }
  return text + "]";
}

}  // namespace kvasir::tasks

#pragma once
// Small text tools of the scorers.

#include <string>
#include <string_view>
#include <vector>

namespace kvasir::tasks {

inline bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }
inline char lower(char letter) {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
}
inline bool is_punctuation(char letter) {
  return (letter >= '!' && letter <= '/') || (letter >= ':' && letter <= '@') ||
         (letter >= '[' && letter <= '`') || (letter >= '{' && letter <= '~');
}

// Of all Unicode letters, as Python's str.lower and str.upper for single code points.
std::string lower_text(std::string_view text);
std::string upper_text(std::string_view text);
// Code points of a text, each as UTF-8; bytes that are none stand alone.
std::vector<std::string> characters(std::string_view text);
// One code point that Unicode calls a blank.
bool is_blank(std::string_view character);
std::string_view trim(std::string_view text);                      // of blanks at both ends
std::vector<std::string> split_words(std::string_view text);       // at blanks
std::vector<std::string_view> split_lines(std::string_view text);  // at "\n"

}  // namespace kvasir::tasks

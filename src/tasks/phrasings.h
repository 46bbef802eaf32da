#pragma once
// Questions of the text tasks: the first as models are trained on it, the others for evaluation
// only. "{}" stands for what is asked for.

#include <array>
#include <string>
#include <string_view>

namespace kvasir::tasks {

using Phrasings = std::array<std::string_view, 6>;

inline constexpr Phrasings kNeedlePhrasings = {
    "What is the secret number of {}?",      "Tell me the secret number of {}.",
    "Which secret number does {} have?",     "The secret number of {} is which one?",
    "Look up the secret number that belongs to {}.", "{}: what secret number was given for it?"};
inline constexpr Phrasings kKvPhrasings = {
    "What is the value of \"{}\"?",     "Give the value for the key \"{}\".",
    "Which value does \"{}\" map to?",  "Look up \"{}\". What stands beside it?",
    "The key is \"{}\". The value is?", "\"{}\" is paired with which value?"};
inline constexpr Phrasings kVarPhrasings = {
    "What is the value of VAR {}?",         "Which number does VAR {} hold?",
    "Follow the assignments: VAR {} is?",   "Tell me the number that VAR {} comes to.",
    "VAR {} stands for which number?",      "Resolve VAR {} to its number."};
inline constexpr Phrasings kIclPhrasings = {
    "{}:", "Which letter belongs to {}?", "What is the label of {}?", "{} ->",
    "Give the letter for {}.", "The word is {}. The letter is"};
inline constexpr Phrasings kPresufPhrasings = {
    "Which line starts with {} and ends with {}?", "Give the line from {} to {}.",
    "Find the line whose first item is {} and whose last is {}.",
    "A line begins with {} and closes with {}. Repeat it.",
    "Between {} and {}, what does the whole line say?", "Copy the line that opens {} and ends {}."};

inline std::string phrase(const Phrasings& phrasings, int which, std::string_view first,
                          std::string_view second = {}) {
  std::string text;
  std::string_view rest = phrasings[static_cast<size_t>(which)];
  for (const std::string_view key : {first, second}) {
    const size_t gap = rest.find("{}");
    if (gap == std::string_view::npos) break;
    (text += rest.substr(0, gap)) += key;
    rest.remove_prefix(gap + 2);
  }
  return text += rest;
}

}  // namespace kvasir::tasks

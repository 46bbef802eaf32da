#pragma once
// Questions of the text tasks. "{}" stands for what is asked for. Of each task's six the first is
// the usual one and the others are for evaluation only; training has further ones of its own, so
// that a model learns what is asked for and not one sentence.

#include <array>
#include <string>
#include <string_view>

namespace kvasir::tasks {

using Phrasings = std::array<std::string_view, 6>;
using TrainingPhrasings = std::array<std::string_view, 12>;

inline constexpr Phrasings kNeedlePhrasings = {"What is the secret number of {}?",
                                               "Tell me the secret number of {}.",
                                               "Which secret number does {} have?",
                                               "The secret number of {} is which one?",
                                               "Look up the secret number that belongs to {}.",
                                               "{}: what secret number was given for it?"};
inline constexpr Phrasings kKvPhrasings = {
    "What is the value of \"{}\"?",     "Give the value for the key \"{}\".",
    "Which value does \"{}\" map to?",  "Look up \"{}\". What stands beside it?",
    "The key is \"{}\". The value is?", "\"{}\" is paired with which value?"};
inline constexpr Phrasings kVarPhrasings = {
    "What is the value of VAR {}?",       "Which number does VAR {} hold?",
    "Follow the assignments: VAR {} is?", "Tell me the number that VAR {} comes to.",
    "VAR {} stands for which number?",    "Resolve VAR {} to its number."};
inline constexpr Phrasings kIclPhrasings = {
    "{}:",   "Which letter belongs to {}?", "What is the label of {}?",
    "{} ->", "Give the letter for {}.",     "The word is {}. The letter is"};
inline constexpr Phrasings kPresufPhrasings = {
    "Which line starts with {} and ends with {}?",
    "Give the line from {} to {}.",
    "Find the line whose first item is {} and whose last is {}.",
    "A line begins with {} and closes with {}. Repeat it.",
    "Between {} and {}, what does the whole line say?",
    "Copy the line that opens {} and ends {}."};

inline constexpr TrainingPhrasings kNeedleTraining = {
    "What number is the secret number of {}?",
    "Please name the secret number of {}.",
    "What was the secret number of {}?",
    "Find the secret number of {}.",
    "Secret number of {}?",
    "I need the secret number of {}.",
    "Do you know the secret number of {}?",
    "What is {}'s secret number?",
    "For {}, what is the secret number?",
    "Repeat the secret number of {}.",
    "State the number kept secret for {}.",
    "Search the text for {} and give its secret number."};
inline constexpr TrainingPhrasings kKvTraining = {"What value does \"{}\" have?",
                                                  "Value of \"{}\"?",
                                                  "Please return the value of \"{}\".",
                                                  "Find \"{}\" and give its value.",
                                                  "What is stored under \"{}\"?",
                                                  "Give me what \"{}\" holds.",
                                                  "For the key \"{}\", what is the value?",
                                                  "Which value belongs to \"{}\"?",
                                                  "\"{}\": ?",
                                                  "What follows \"{}\" in the list?",
                                                  "Search for \"{}\" and repeat its value.",
                                                  "I need the value of \"{}\"."};
inline constexpr TrainingPhrasings kVarTraining = {"What value does VAR {} have?",
                                                   "VAR {} = ?",
                                                   "What number is VAR {}?",
                                                   "Which number is assigned to VAR {}?",
                                                   "Find the value of VAR {}.",
                                                   "Please give the value of VAR {}.",
                                                   "In the end, what is VAR {}?",
                                                   "VAR {} equals what?",
                                                   "To which number does VAR {} lead?",
                                                   "I need the number behind VAR {}.",
                                                   "State the value of VAR {}.",
                                                   "Trace VAR {} back: which number is it?"};
inline constexpr TrainingPhrasings kIclTraining = {"{}: ?",
                                                   "{} =",
                                                   "Which letter does {} get?",
                                                   "What letter stands beside {}?",
                                                   "Label {}.",
                                                   "Classify: {}",
                                                   "{} has the letter",
                                                   "Which label does {} carry?",
                                                   "For {}, the letter is",
                                                   "What comes behind {}?",
                                                   "Name the letter of {}.",
                                                   "Word: {}. Letter:"};
inline constexpr TrainingPhrasings kPresufTraining = {
    "What line starts with {} and ends with {}?",
    "Repeat the line that starts with {} and ends with {}.",
    "Which line has {} at its start and {} at its end?",
    "Find the line that begins with {} and ends with {}.",
    "Show the line with first code {} and last code {}.",
    "Line from {} up to {}?",
    "Give the whole line: it starts {}, it ends {}.",
    "The line starts with {}. It ends with {}. Which is it?",
    "Which line opens with {} and closes with {}?",
    "Name the line between {} and {}.",
    "I need the line with {} in front and {} behind.",
    "{} ... {}: which line?"};

inline std::string phrase(std::string_view phrasing, std::string_view first,
                          std::string_view second = {}) {
  std::string text;
  std::string_view rest = phrasing;
  for (const std::string_view key : {first, second}) {
    const size_t gap = rest.find("{}");
    if (gap == std::string_view::npos) break;
    (text += rest.substr(0, gap)) += key;
    rest.remove_prefix(gap + 2);
  }
  return text += rest;
}

}  // namespace kvasir::tasks

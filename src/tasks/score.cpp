#include "tasks/score.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "tasks/score_text.h"

namespace kvasir::tasks {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

template <class Measure>
double best_of(const ScoreInput& input, Measure&& measure) {
  double best = 0;
  for (const std::string& answer : input.turn.answers)
    best = std::max(best, static_cast<double>(measure(answer)));
  return best;
}

Result<double> exact(const ScoreInput& input) {
  return best_of(input,
                 [&](const std::string& answer) { return trim(input.prediction) == answer; });
}

Result<double> containment(const ScoreInput& input) {
  return best_of(input,
                 [&](const std::string& answer) { return contains(input.prediction, answer); });
}

double share_contained(const ScoreInput& input, std::string_view prediction) {
  const std::string text = lower_text(prediction);
  double found = 0;
  for (const std::string& answer : input.turn.answers) found += contains(text, lower_text(answer));
  return found / static_cast<double>(input.turn.answers.size());
}

Result<double> variables(const ScoreInput& input) {
  const double share = share_contained(input, input.prediction);
  if (input.scoring == Scoring::kStrict) return share;
  char rounded[16];  // the decimal rounding of Python's round(x, 2)
  std::snprintf(rounded, sizeof rounded, "%.2f", share);
  return std::strtod(rounded, nullptr);
}

Result<double> english_qa(const ScoreInput& input) {
  const std::string text = upper_text(trim(input.prediction));
  return best_of(input,
                 [&](const std::string& answer) { return contains(text, upper_text(answer)); });
}

Result<double> chinese_qa(const ScoreInput& input) {
  return best_of(input, [&](const std::string& answer) {
    if (input.scoring == Scoring::kStrict) return character_f1(input.prediction, answer);
    double best = 0;  // the published code takes each letter of the label for a label
    for (const std::string& letter : characters(answer))
      best = std::max(best, character_f1(input.prediction, letter));
    return best;
  });
}

bool is_word_letter(char letter) {
  return is_digit(letter) || (lower(letter) >= 'a' && lower(letter) <= 'z');
}

Result<double> choice(const ScoreInput& input) {
  const auto& options = input.turn.options;
  const std::string& text = input.turn.answers.front();
  const auto place = std::find(options.begin(), options.end(), text);
  if (place == options.end() || options.size() > 4)
    return Error(ErrorCode::kInvalidArgument,
                 "expected at most four options with the answer among them, found " +
                     std::to_string(options.size()),
                 "choice");
  const std::string letter(1, static_cast<char>('A' + (place - options.begin())));
  const bool is_strict = input.scoring == Scoring::kStrict;
  const auto is_label = [&](std::string_view answer) { return answer == letter || answer == text; };
  const std::string prediction(trim(input.prediction));
  if (prediction.empty()) return 0.0;
  const bool is_a_letter = contains("ABCD", prediction.substr(0, 1));
  const bool is_alone = prediction.size() < 2 || !is_word_letter(prediction[1]);
  if (is_a_letter && (!is_strict || (is_alone && !prediction.starts_with("A "))))
    return is_label(prediction.substr(0, 1)) ? 1.0 : 0.0;
  if (is_label(prediction)) return 1.0;
  std::string plain;
  for (const char each : prediction) {
    const char kept = contains("\n\"'.,?!{}", {&each, 1}) ? ' ' : each;
    if (kept != ' ' || !plain.ends_with(' ')) plain += kept;
  }
  for (const std::string_view prefix : {"answer is:", "answer:", "answer is", "option is"}) {
    const size_t at = plain.find(prefix);
    if (at == std::string::npos) continue;
    if (plain.size() < at + prefix.size() + 1) return 0.0;
    const std::string_view rest = std::string_view(plain).substr(at + prefix.size() + 1);
    return rest.starts_with(text) || rest.starts_with(letter) ? 1.0 : 0.0;
  }
  for (const std::string& word : split_words(plain))
    if (contains("ABCD", word) && (!is_strict || word.size() == 1))
      return is_label(word) ? 1.0 : 0.0;
  return 0.0;
}

Result<double> first_number(const ScoreInput& input) {
  const std::string text(input.prediction);
  const size_t first = text.find_first_of("0123456789");
  if (first == std::string::npos) return 0.0;
  const bool is_negative = input.scoring == Scoring::kStrict && first > 0 && text[first - 1] == '-';
  size_t last = text.find_first_not_of("0123456789", first);
  if (last != std::string::npos && text[last] == '.' && last + 1 < text.size() &&
      is_digit(text[last + 1]))
    last = text.find_first_not_of("0123456789", last + 1);
  const double number =
      std::strtod(text.substr(first, last == std::string::npos ? last : last - first).c_str(),
                  nullptr) *
      (is_negative ? -1 : 1);
  return best_of(input, [&](const std::string& answer) {
    const bool is_whole = !contains(answer, ".");
    return (is_whole ? std::trunc(number) : number) == std::strtod(answer.c_str(), nullptr);
  });
}

Result<double> many_shot(const ScoreInput& input) {
  const std::string text = upper_text(trim(input.prediction));
  if (input.scoring == Scoring::kReference)  // takes each letter of the label for a label
    return best_of(input, [&](const std::string& answer) {
      const auto letters = characters(upper_text(answer));
      return std::any_of(letters.begin(), letters.end(),
                         [&](const std::string& letter) { return contains(text, letter); });
    });
  return best_of(input,
                 [&](const std::string& answer) { return contains(text, upper_text(answer)); });
}

Result<double> summary(const ScoreInput& input) {
  return best_of(input,
                 [&](const std::string& answer) { return rouge_lsum(input.prediction, answer); });
}

Result<double> passkey(const ScoreInput& input) {
  if (input.turn.is_integer && input.scoring == Scoring::kReference) return 0.0;
  const size_t first = input.prediction.find_first_of("0123456789");
  if (first == std::string_view::npos) return 0.0;
  const size_t last =
      std::min(input.prediction.find_first_not_of("0123456789", first), input.prediction.size());
  return best_of(input, [&](const std::string& answer) {
    return input.prediction.substr(first, last - first) == answer;
  });
}

// The first block between lines of three backticks; the whole text where there is none. The
// published code then asks a parser of the language for the block that holds a function.
std::string_view first_block(std::string_view text) {
  size_t begin = std::string_view::npos, at = 0;
  for (const std::string_view line : split_lines(text)) {
    if (line.starts_with("```")) {
      if (begin != std::string_view::npos) return text.substr(begin, at - begin);
      const std::string_view behind = line.substr(3);
      const auto is_tag = [](char letter) { return is_word_letter(letter) || letter == '_'; };
      const auto tag_end = std::find_if_not(behind.begin(), behind.end(), is_tag);
      if (trim({tag_end, behind.end()}).empty())
        begin = std::min(at + line.size() + 1, text.size());
    }
    at += line.size() + 1;
  }
  return text;
}

Result<double> repository(const ScoreInput& input) {
  if (input.functions.empty())
    return Error(ErrorCode::kInvalidArgument,
                 "needs the functions of the repository to compare with", "repoqa");
  const std::string_view candidate = trim(first_block(trim(input.prediction)));
  double best = 0;
  std::string_view name;
  for (const Function& function : input.functions) {
    const double similarity = code_similarity(candidate, function.text);
    if (similarity <= best) continue;
    best = similarity;
    name = function.name;
  }
  return name == input.turn.name && best >= 0.8 ? 1.0 : 0.0;
}

Result<double> common_words(const ScoreInput& input) {
  return best_of(input, [&](const std::string& answer) {
    const auto a = split_words(input.prediction), b = split_words(answer);
    std::vector<size_t> row(b.size() + 1);
    for (const std::string& word : a)
      for (size_t j = 1, diagonal = 0; j <= b.size(); ++j) {
        const size_t above = row[j];
        row[j] = word == b[j - 1] ? diagonal + 1 : std::max(row[j], row[j - 1]);
        diagonal = above;
      }
    return a.empty() && b.empty()
               ? 1.0
               : 2 * static_cast<double>(row.back()) / static_cast<double>(a.size() + b.size());
  });
}

// RULER's: control characters become line ends.
std::string without_controls(std::string_view prediction) {
  std::string text(trim(prediction));
  for (char& letter : text)
    if (static_cast<unsigned char>(letter) < 32) letter = '\n';
  return std::string(trim(text));
}

Result<double> ruler_all(const ScoreInput& input) {
  return share_contained(input, without_controls(input.prediction));
}

Result<double> ruler_part(const ScoreInput& input) {
  const std::string text = lower_text(without_controls(input.prediction));
  return best_of(input,
                 [&](const std::string& answer) { return contains(text, lower_text(answer)); });
}

Result<double> answer_f1(const ScoreInput& input) {
  return best_of(input,
                 [&](const std::string& answer) { return token_f1(input.prediction, answer); });
}

constexpr Scorer kScorers[] = {
    {"exact", "the trimmed answer is one of the references", exact},
    {"contains", "a reference stands in the answer", containment},
    {"variables", "share of the references that stand in the answer, in any case", variables},
    {"qa_eng", "a reference stands in the answer, in any case", english_qa},
    {"qa_chn", "F1 of characters", chinese_qa},
    {"choice", "the letter or text of the right option", choice},
    {"math_find", "the first number is the reference", first_number},
    {"many_shot", "the label stands in the answer, in any case", many_shot},
    {"summary", "ROUGE-Lsum, F-measure", summary},
    {"passkey", "the first run of digits is the reference", passkey},
    {"repoqa", "nearest to the function asked for, with a similarity of at least 0.8", repository},
    {"lcs", "F-measure of the longest common subsequence of words", common_words},
    {"ruler_all", "share of the references that stand in the answer, in any case", ruler_all},
    {"ruler_part", "a reference stands in the answer, in any case", ruler_part},
    {"token_f1", "F1 of words, normalised as SQuAD does", answer_f1},
};

}  // namespace

std::span<const Scorer> scorers() { return kScorers; }

Result<const Scorer*> find_scorer(std::string_view name) {
  std::string all;
  for (const Scorer& scorer : kScorers) {
    if (scorer.name == name) return &scorer;
    (all += all.empty() ? "" : ", ") += scorer.name;
  }
  return Error(ErrorCode::kNotFound, "no such scorer; there are " + all, std::string(name));
}

Result<double> score(std::string_view name, const ScoreInput& input) {
  const auto scorer = find_scorer(name);
  if (!scorer) return scorer.error();
  if (input.turn.answers.empty())
    return Error(ErrorCode::kInvalidArgument,
                 "the question has no reference to score against: " + input.turn.question,
                 std::string(name));
  return scorer.value()->score(input);
}

}  // namespace kvasir::tasks

// Measures of how much of a reference an answer has: F1, ROUGE-Lsum, BLEU.

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tasks/score.h"
#include "tasks/score_text.h"

namespace kvasir::tasks {
namespace {

using Words = std::vector<std::string>;

double f1(double hits, size_t of_prediction, size_t of_reference) {
  if (hits == 0) return 0;
  const double precision = hits / static_cast<double>(of_prediction);
  const double recall = hits / static_cast<double>(of_reference);
  return 2 * precision * recall / (precision + recall);
}

double multiset_f1(const Words& prediction, const Words& reference) {
  std::map<std::string_view, int> left;
  for (const auto& word : reference) ++left[word];
  double hits = 0;
  for (const auto& word : prediction)
    if (auto found = left.find(word); found != left.end() && found->second-- > 0) ++hits;
  return f1(hits, prediction.size(), reference.size());
}

Words squad_words(std::string_view text) {
  std::string kept;
  for (const char letter : text)
    if (!is_punctuation(letter)) kept += lower(letter);
  Words words = split_words(kept);
  std::erase_if(
      words, [](const std::string& word) { return word == "a" || word == "an" || word == "the"; });
  return words;
}

// What the Chinese scorer deletes besides ASCII punctuation: 》 is among them, 《 is not.
constexpr std::string_view kChinesePunctuation =
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕"
    "〖〗"
    "〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";

Words chinese_letters(std::string_view text) {
  static const std::set<std::string> deleted = [] {
    const Words all = characters(kChinesePunctuation);
    return std::set<std::string>(all.begin(), all.end());
  }();
  Words letters;
  for (std::string& each : characters(text)) {
    if (each.size() == 1 && is_punctuation(each[0])) continue;
    if (is_blank(each) || deleted.contains(each)) continue;
    if (each.size() == 1) each[0] = lower(each[0]);
    letters.push_back(std::move(each));
  }
  return letters;
}

// Google's: lower-case runs of letters and digits.
Words rouge_words(std::string_view text) {
  std::string kept;
  for (const char letter : text) {
    const char small = lower(letter);
    kept += is_digit(small) || (small >= 'a' && small <= 'z') ? small : ' ';
  }
  return split_words(kept);
}

// Places of `reference` on one longest common subsequence with `candidate`.
void add_common(const Words& reference, const Words& candidate, std::set<size_t>& places) {
  const size_t rows = reference.size(), columns = candidate.size();
  std::vector<uint32_t> table((rows + 1) * (columns + 1));
  const auto at = [&](size_t i, size_t j) -> uint32_t& { return table[i * (columns + 1) + j]; };
  for (size_t i = 1; i <= rows; ++i)
    for (size_t j = 1; j <= columns; ++j)
      at(i, j) = reference[i - 1] == candidate[j - 1] ? at(i - 1, j - 1) + 1
                                                      : std::max(at(i - 1, j), at(i, j - 1));
  for (size_t i = rows, j = columns; i > 0 && j > 0;) {
    if (reference[i - 1] == candidate[j - 1]) {
      places.insert(i - 1);
      --i;
      --j;
    } else if (at(i, j - 1) > at(i - 1, j)) {
      --j;
    } else {
      --i;
    }
  }
}

using Grams = std::map<Words, int>;
Grams grams(std::span<const std::string> words, size_t size) {
  Grams counted;
  for (size_t i = 0; i + size <= words.size(); ++i) {
    const auto gram = words.subspan(i, size);
    ++counted[Words(gram.begin(), gram.end())];
  }
  return counted;
}

}  // namespace

double token_f1(std::string_view prediction, std::string_view reference) {
  return multiset_f1(squad_words(prediction), squad_words(reference));
}

double character_f1(std::string_view prediction, std::string_view reference) {
  return multiset_f1(chinese_letters(prediction), chinese_letters(reference));
}

double rouge_lsum(std::string_view prediction, std::string_view reference) {
  std::vector<Words> candidates, references;
  std::map<std::string, int> candidate_left, reference_left;
  size_t candidate_words = 0, reference_words = 0;
  for (const std::string_view line : split_lines(prediction)) {
    candidates.push_back(rouge_words(line));
    candidate_words += candidates.back().size();
    for (const auto& word : candidates.back()) ++candidate_left[word];
  }
  for (const std::string_view line : split_lines(reference)) {
    references.push_back(rouge_words(line));
    reference_words += references.back().size();
    for (const auto& word : references.back()) ++reference_left[word];
  }
  double hits = 0;
  for (const Words& sentence : references) {
    std::set<size_t> places;
    for (const Words& candidate : candidates) add_common(sentence, candidate, places);
    for (const size_t place : places) {
      int& of_candidate = candidate_left[sentence[place]];
      int& of_reference = reference_left[sentence[place]];
      if (of_candidate <= 0 || of_reference <= 0) continue;
      --of_candidate;
      --of_reference;
      ++hits;
    }
  }
  return f1(hits, candidate_words, reference_words);
}

double smoothed_bleu(std::span<const std::string> candidate,
                     std::span<const std::string> reference) {
  const auto size = static_cast<double>(candidate.size());
  if (candidate.empty()) return 0;
  double sum = 0, power = 1;
  for (size_t n = 1; n <= 4; ++n) {
    const Grams wanted = grams(reference, n);
    double matches = 0, count = 0;
    for (const auto& [gram, times] : grams(candidate, n)) {
      count += times;
      if (const auto found = wanted.find(gram); found != wanted.end())
        matches += std::min(times, found->second);
    }
    count = std::max(count, 1.0);
    if (n == 1 && matches == 0) return 0;
    double precision = matches / count;
    if (matches == 0 && candidate.size() > 1) {
      power *= 2;
      precision = std::log(size) / (power * 5) / count;
    }
    if (precision > 0) sum += std::log(precision) / 4;
  }
  const double ratio = static_cast<double>(reference.size()) / size;
  const double brevity = ratio < 1 ? 1 : std::exp(1 - ratio);
  return brevity * std::exp(sum);
}

double code_similarity(std::string_view candidate, std::string_view reference) {
  return smoothed_bleu(split_words(candidate), split_words(reference));
}

}  // namespace kvasir::tasks

#include "tasks/haystack.h"

#include <algorithm>

#include "base/file.h"
#include "tasks/keys.h"

namespace kvasir::tasks {
namespace {

bool is_space(char letter) {
  return letter == ' ' || letter == '\n' || letter == '\t' || letter == '\r';
}

// Where sentences begin: behind sentence ends and blanks, where a capital letter or a quote stands.
std::vector<uint32_t> sentence_starts(std::string_view text) {
  std::vector<uint32_t> starts;
  for (const size_t end : sentence_ends(text)) {
    size_t start = end;
    while (start < text.size() && is_space(text[start])) ++start;
    if (start + 1 < text.size()) starts.push_back(static_cast<uint32_t>(start));
  }
  return starts;
}

// Ends with a whole word: cut back to the last blank.
void cut_to_words(std::string& text) {
  while (!text.empty() && !is_space(text.back())) text.pop_back();
  while (!text.empty() && is_space(text.back())) text.pop_back();
}

}  // namespace

std::vector<size_t> sentence_ends(std::string_view text) {
  std::vector<size_t> ends{0};
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    const char letter = text[i];
    if (letter != '.' && letter != '!' && letter != '?') continue;
    // "Mr. Smith" and "J. Smith" end no sentence.
    const size_t word = text.find_last_of(" \n", i);
    const size_t length = i - (word == std::string_view::npos ? 0 : word + 1);
    if (is_space(text[i + 1]) && length > 3) ends.push_back(i + 1);
  }
  return ends;
}

Result<Haystack> Haystack::load(const std::vector<std::filesystem::path>& files) {
  std::vector<std::string> texts;
  for (const auto& file : files) {
    auto text = read_file(file);
    if (!text) return text.error();
    texts.push_back(std::move(text).value());
  }
  return of(std::move(texts));
}

Result<Haystack> Haystack::of(std::vector<std::string> texts) {
  Haystack haystack;
  haystack.texts_ = std::move(texts);
  for (const std::string& text : haystack.texts_) {
    if (text.size() >> 32 != 0)
      return Error(ErrorCode::kInvalidArgument, "a text of a haystack has less than 4 GiB");
    haystack.starts_.push_back(sentence_starts(text));
    haystack.bytes_ += text.size();
    if (haystack.starts_.back().empty())
      return Error(ErrorCode::kInvalidArgument,
                   "expected texts with sentences for a haystack, found one without");
  }
  if (haystack.texts_.empty())
    return Error(ErrorCode::kInvalidArgument, "expected at least one text for a haystack");
  return haystack;
}

Haystack Haystack::made_up(uint64_t seed, size_t bytes) {
  static constexpr std::string_view kVerbs[] = {"passed", "followed", "found",   "carried",
                                                "left",   "watched",  "crossed", "remembered"};
  static constexpr std::string_view kEnds[] = {"in the morning", "before the rain", "once more",
                                               "without a word", "that evening", "for years"};
  Random random(seed, "made-up", 0);
  std::string text;
  const auto thing = [&](std::string_view article) {
    text += article;
    text += ' ';
    text += adjectives()[random.below(adjectives().size())];
    text += ' ';
    text += random_noun(random);
  };
  while (text.size() < bytes) {
    thing("The");
    text += ' ';
    text += kVerbs[random.below(std::size(kVerbs))];
    thing(" the");
    text += ' ';
    text += kEnds[random.below(std::size(kEnds))];
    text += random.below(8) == 0 ? ".\n\n" : ". ";
  }
  return of({std::move(text)}).value();
}

std::string Haystack::from(size_t text, size_t offset, size_t bytes) const {
  std::string piece;
  piece.reserve(bytes);
  for (size_t skip = offset; piece.size() < bytes; skip = 0) {
    piece.append(texts_[text], skip, bytes - piece.size());
    text = (text + 1) % texts_.size();
    if (piece.size() < bytes) piece += "\n\n";
  }
  if (piece.size() > bytes) piece.resize(bytes);
  cut_to_words(piece);
  return piece;
}

std::string Haystack::piece(Random& random, size_t bytes) const {
  uint64_t at = random.below(bytes_);
  size_t text = 0;
  while (at >= texts_[text].size()) at -= texts_[text++].size();
  const auto& starts = starts_[text];
  auto start = std::upper_bound(starts.begin(), starts.end(), static_cast<uint32_t>(at));
  if (start != starts.begin()) --start;
  return from(text, *start, bytes);
}

std::string Haystack::beginning(size_t bytes) const { return from(0, 0, bytes); }

}  // namespace kvasir::tasks

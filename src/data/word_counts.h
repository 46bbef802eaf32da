#pragma once
// The words of texts as a byte-level tokenizer cuts them, and how often each occurs.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/pre_tokenizer.h"
#include "text/token_tables.h"

namespace kvasir {
class ThreadPool;
}

namespace kvasir::data {

// The expression of Llama 3's tokenizer; with `single_digits` every digit is a word, otherwise up
// to three.
std::string split_expression(bool single_digits);

class WordCounts {
 public:
  // Counts the words of `text`, valid UTF-8.
  void add(std::string_view text, const text::PreTokenizer& cutter);
  void add(std::string_view word, int64_t count);
  void add(const WordCounts& other);

  size_t size() const { return counts_.size(); }
  std::string_view word(size_t index) const { return words_.text(index); }
  int64_t count(size_t index) const { return counts_[index]; }

 private:
  text::TokenMap words_;  // entry i has id i
  std::vector<int64_t> counts_;
};

// Counts the words of text files by all threads. `done` is told bytes done and all bytes, by the
// calling thread. Errors: those of reading; kMalformed for text that is not UTF-8.
Result<WordCounts> count_words(std::span<const std::filesystem::path> files, bool single_digits,
                               ThreadPool& pool,
                               const std::function<void(int64_t, int64_t)>& done = nullptr);

}  // namespace kvasir::data

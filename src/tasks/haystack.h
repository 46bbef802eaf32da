#pragma once
// Long natural text in which tasks hide what they ask for.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tasks/random.h"

namespace kvasir::tasks {

class Haystack {
 public:
  // UTF-8 text files, in this order. Errors: kNotFound, kIo, kInvalidArgument (none, or one without
  // a sentence).
  static Result<Haystack> load(const std::vector<std::filesystem::path>& files);
  // The same from memory, where `texts` are copied.
  static Result<Haystack> of(std::vector<std::string> texts);
  // Made-up prose for where there are no books: grammatical sentences of a small vocabulary.
  static Haystack made_up(uint64_t seed = 0, size_t bytes = size_t{1} << 20);

  // `bytes` of text from a random sentence start on, ending with a whole word (so up to a word
  // fewer); goes on in the next text where one ends.
  std::string piece(Random& random, size_t bytes) const;
  // `bytes` from the very beginning.
  std::string beginning(size_t bytes) const;
  size_t bytes() const { return bytes_; }

 private:
  std::string from(size_t text, size_t offset, size_t bytes) const;
  std::vector<std::string> texts_;
  std::vector<std::vector<uint32_t>> starts_;  // of sentences, of each text
  size_t bytes_ = 0;
};

// Places behind a full stop, exclamation or question mark that ends a sentence, ascending; 0 is one.
std::vector<size_t> sentence_ends(std::string_view text);

}  // namespace kvasir::tasks

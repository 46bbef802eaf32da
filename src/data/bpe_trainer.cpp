#include "data/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include "base/check.h"
#include "text/unicode.h"

namespace kvasir::data {
namespace {

using Pair = uint64_t;  // both ids; compares as they do, left first

Pair pair_of(int32_t left, int32_t right) {
  return static_cast<Pair>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
int32_t left_of(Pair pair) { return static_cast<int32_t>(pair >> 32); }
int32_t right_of(Pair pair) { return static_cast<int32_t>(pair & 0xFFFFFFFF); }

std::string letter_of(int byte) {
  std::string letter;
  text::append_utf8(text::byte_to_char(static_cast<uint8_t>(byte)), letter);
  return letter;
}

// A pair that may be merged, with the words in which it had been found when it was queued. A word
// may have lost it since, and its count may have fallen.
struct Candidate {
  int64_t count;
  Pair pair;
  size_t words;  // index of Trainer::places_

  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  Trainer(const WordCounts& words, std::span<const std::string_view> special_tokens) {
    for (const std::string_view token : special_tokens) add_token(std::string(token));
    add_bytes();
    read_words(words);
  }

  Bpe run(int64_t vocab_size, const std::function<void(int64_t, int64_t)>& done) {
    while (size() < vocab_size && !queue_.empty()) {
      Candidate top = queue_.top();
      queue_.pop();
      const int64_t count = counts_[top.pair];
      if (count < 1) continue;
      if (count != top.count) {
        top.count = count;
        queue_.push(top);
        continue;
      }
      merge(top);
      if (done) done(size(), vocab_size);
    }
    drop_repeated_merges();
    return std::move(bpe_);
  }

 private:
  struct Word {
    size_t begin;  // in symbols_
    uint32_t size;
    int64_t count;
  };

  int64_t size() const { return static_cast<int64_t>(bpe_.tokens.size()); }

  // Its id: that of the same text where there is one.
  int32_t add_token(std::string token) {
    const auto [place, is_new] = ids_.try_emplace(std::move(token), static_cast<int32_t>(size()));
    if (is_new) bpe_.tokens.push_back(place->first);
    return place->second;
  }

  void add_bytes() {
    std::vector<int> bytes(256);
    for (int byte = 0; byte < 256; ++byte) bytes[static_cast<size_t>(byte)] = byte;
    std::sort(bytes.begin(), bytes.end(), [](int a, int b) {
      return text::byte_to_char(static_cast<uint8_t>(a)) <
             text::byte_to_char(static_cast<uint8_t>(b));
    });
    for (const int byte : bytes) byte_ids_[byte] = add_token(letter_of(byte));
  }

  void read_words(const WordCounts& words) {
    std::unordered_map<Pair, size_t> places;
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string_view word = words.word(i);
      words_.push_back({symbols_.size(), static_cast<uint32_t>(word.size()), words.count(i)});
      for (const char byte : word) symbols_.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
      const int32_t* symbols = symbols_.data() + words_.back().begin;
      for (size_t k = 0; k + 1 < word.size(); ++k)
        count(pair_of(symbols[k], symbols[k + 1]), words.count(i), i, places);
    }
    queue(places);
  }

  // `word` has the pair so many times more; it is remembered in the pair's new places.
  void count(Pair pair, int64_t more, size_t word, std::unordered_map<Pair, size_t>& places) {
    counts_[pair] += more;
    const auto [place, is_new] = places.try_emplace(pair, places_.size());
    if (is_new) places_.emplace_back();
    std::vector<uint32_t>& list = places_[place->second];
    if (list.empty() || list.back() != word) list.push_back(static_cast<uint32_t>(word));
  }

  void queue(std::unordered_map<Pair, size_t>& places) {
    for (const auto& [pair, place] : places)
      if (const int64_t count = counts_[pair]; count > 0) queue_.push({count, pair, place});
    places.clear();
  }

  void merge(const Candidate& candidate) {
    const int32_t left = left_of(candidate.pair), right = right_of(candidate.pair);
    const int32_t id =
        add_token(bpe_.tokens[static_cast<size_t>(left)] + bpe_.tokens[static_cast<size_t>(right)]);
    bpe_.merges.emplace_back(left, right);
    const std::vector<uint32_t> words = std::move(places_[candidate.words]);
    for (const uint32_t word : words) merge_in(word, left, right, id);
    queue(new_places_);
  }

  void merge_in(size_t index, int32_t left, int32_t right, int32_t id) {
    Word& word = words_[index];
    int32_t* symbols = symbols_.data() + word.begin;
    uint32_t kept = 0;
    for (uint32_t at = 0; at < word.size; ++at) {
      if (symbols[at] != left || at + 1 == word.size || symbols[at + 1] != right) {
        symbols[kept++] = symbols[at];
        continue;
      }
      if (kept > 0) {
        counts_[pair_of(symbols[kept - 1], left)] -= word.count;
        count(pair_of(symbols[kept - 1], id), word.count, index, new_places_);
      }
      if (at + 2 < word.size) {
        counts_[pair_of(right, symbols[at + 2])] -= word.count;
        count(pair_of(id, symbols[at + 2]), word.count, index, new_places_);
      }
      symbols[kept++] = id;
      ++at;
    }
    word.size = kept;
  }

  // Two merges may make one text, and pairs with it are then found again: the last merge of a pair
  // counts, as it does in a table by pair.
  void drop_repeated_merges() {
    auto& merges = bpe_.merges;
    std::unordered_map<Pair, size_t> last;
    for (size_t i = 0; i < merges.size(); ++i) last[pair_of(merges[i].first, merges[i].second)] = i;
    size_t kept = 0;
    for (size_t i = 0; i < merges.size(); ++i)
      if (last[pair_of(merges[i].first, merges[i].second)] == i) merges[kept++] = merges[i];
    merges.resize(kept);
  }

  Bpe bpe_;
  std::unordered_map<std::string, int32_t> ids_;
  int32_t byte_ids_[256];
  std::vector<int32_t> symbols_;  // of all words; a word's only get fewer
  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t> counts_;
  std::vector<std::vector<uint32_t>> places_;
  std::unordered_map<Pair, size_t> new_places_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

Bpe train_bpe(const WordCounts& words, std::span<const std::string_view> special_tokens,
              int64_t vocab_size, const std::function<void(int64_t, int64_t)>& done) {
  KVASIR_CHECK(vocab_size >= static_cast<int64_t>(special_tokens.size()) + 256);
  return Trainer(words, special_tokens).run(vocab_size, done);
}

}  // namespace kvasir::data

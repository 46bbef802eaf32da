#pragma once
// Added tokens: texts that become one id wherever they stand, before anything else happens.

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/normalizer.h"
#include "text/token_tables.h"
#include "text/tokenizer_json.h"

namespace kvasir::text {

struct AddedToken {
  TokenId id = -1;
  std::string content;
  std::string matched;  // what is looked for: the content, normalised where `normalized`
  bool single_word = false, left_strip = false, right_strip = false;
  bool normalized = false, special = false;
};

// A set of texts, searched for leftmost-longest.
class TextSet {
 public:
  // False where `text` is there already. `text` is not empty.
  bool insert(std::string_view text, int value);
  bool empty() const { return nodes_.size() == 1; }
  // The first match that begins at or after `from`: the longest of its place. False if none.
  bool find(std::string_view text, size_t from, size_t& begin, size_t& end, int& value) const;

 private:
  struct Node {
    int value = -1;
    std::vector<std::pair<char, int>> children;  // sorted by byte
  };
  int child(int node, char byte) const;
  std::vector<Node> nodes_{Node{}};
  std::array<bool, 256> first_{};
  int only_first_ = -1;  // the first byte of all texts, where it is one
};

// A part of the text: an added token, or (id < 0) text between such.
struct AddedSpan {
  size_t begin, end;
  TokenId id;
};

class AddedVocabulary {
 public:
  // Reads the list `added_tokens`; ids are those of `vocabulary` where it has the text. Throws
  // Error{kMalformed}.
  static AddedVocabulary parse(const JsonNode& node, const TokenMap& vocabulary,
                               const Normalizer& normalizer);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  bool is_special_text(std::string_view token) const {
    return special_texts_.contains(std::string(token));
  }
  bool has_normalized() const { return !normalized_.empty(); }

  // Cuts text at the added tokens that match as they are, or (`normalized`) in normalised text.
  // Replaces `spans`. Special ones are passed over where `parse_special` is false.
  void split(std::string_view text, bool normalized, bool parse_special,
             std::vector<AddedSpan>& spans) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_set<std::string> special_texts_;
  TextSet plain_, normalized_;
};

}  // namespace kvasir::text

#include "text/wordpiece.h"

#include <algorithm>

#include "text/unicode.h"

namespace kvasir::text {

std::unique_ptr<const WordPieceModel> WordPieceModel::parse(const JsonNode& node) {
  auto model = std::make_unique<WordPieceModel>();
  model->vocabulary_ = read_vocabulary(node.at("vocab"));
  model->unknown_ = model->find_token(node.at("unk_token"));
  model->most_characters_ =
      static_cast<size_t>(node.integer("max_input_chars_per_word", 0, INT64_MAX));
  const std::string& prefix = node.string("continuing_subword_prefix");
  std::vector<std::pair<std::string_view, int32_t>> beginnings, continuations;
  const TokenMap& vocabulary = model->vocabulary_;
  for (size_t entry = 0; entry < vocabulary.size(); ++entry) {
    const std::string_view token = vocabulary.text(entry);
    beginnings.emplace_back(token, vocabulary.id(entry));
    if (!token.starts_with(prefix)) continue;
    continuations.emplace_back(token.substr(prefix.size()), vocabulary.id(entry));
  }
  model->beginnings_ = ByteTrie::build(std::move(beginnings));
  model->continuations_ = ByteTrie::build(std::move(continuations));
  return model;
}

void WordPieceModel::encode_new(std::string_view word, ModelScratch&,
                                std::vector<TokenId>& out) const {
  const auto characters =
      std::ranges::count_if(word, [](char byte) { return !is_utf8_continuation(byte); });
  const size_t before = out.size();
  bool is_covered = static_cast<size_t>(characters) <= most_characters_;
  for (size_t at = 0; is_covered && at < word.size();) {
    const ByteTrie& trie = at == 0 ? beginnings_ : continuations_;
    uint32_t node = ByteTrie::kRoot;
    TokenId longest = -1;
    size_t longest_end = at;
    for (size_t end = at; end < word.size();) {
      node = trie.child(node, word[end++]);
      if (node == ByteTrie::kNone) break;
      if (trie.value(node) < 0) continue;
      longest = trie.value(node);
      longest_end = end;
    }
    is_covered = longest >= 0;
    if (is_covered) out.push_back(longest);
    at = longest_end;
  }
  if (is_covered) return;
  out.resize(before);
  out.push_back(unknown_);
}

std::unique_ptr<const WordLevelModel> WordLevelModel::parse(const JsonNode& node) {
  auto model = std::make_unique<WordLevelModel>();
  model->vocabulary_ = read_vocabulary(node.at("vocab"));
  model->unknown_ = model->find_token(node.at("unk_token"));
  return model;
}

void WordLevelModel::encode_new(std::string_view word, ModelScratch&,
                                std::vector<TokenId>& out) const {
  const TokenId id = vocabulary_.find(word);
  out.push_back(id >= 0 ? id : unknown_);
}

}  // namespace kvasir::text

#pragma once
// Models that look words up: WordPiece (Schuster and Nakajima 2012, as of BERT) and WordLevel.

#include "text/byte_trie.h"
#include "text/token_model.h"

namespace kvasir::text {

// The longest token that begins a word, then the longest that continues it, and so on; a word that
// is not covered so is the unknown token.
class WordPieceModel final : public TokenModel {
 public:
  // Reads {"type": "WordPiece", "unk_token", "continuing_subword_prefix",
  // "max_input_chars_per_word", "vocab": {token: id, ...}}. Throws Error{kMalformed}.
  static std::unique_ptr<const WordPieceModel> parse(const JsonNode& node);

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<ModelScratch>();
  }

 private:
  void encode_new(std::string_view word, ModelScratch& scratch,
                  std::vector<TokenId>& out) const override;

  ByteTrie beginnings_, continuations_;  // the latter without their prefix
  TokenId unknown_ = -1;
  size_t most_characters_ = 0;  // longer words are unknown
};

// Every word is one token.
class WordLevelModel final : public TokenModel {
 public:
  // Reads {"type": "WordLevel", "unk_token", "vocab": {token: id, ...}}. Throws Error{kMalformed}.
  static std::unique_ptr<const WordLevelModel> parse(const JsonNode& node);

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<ModelScratch>();
  }

 private:
  void encode_new(std::string_view word, ModelScratch& scratch,
                  std::vector<TokenId>& out) const override;

  TokenId unknown_ = -1;
};

}  // namespace kvasir::text

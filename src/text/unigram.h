#pragma once
// The unigram language model of SentencePiece (Kudo 2018): the segmentation of highest score.

#include <array>

#include "text/byte_trie.h"
#include "text/token_model.h"

namespace kvasir::text {

struct UnigramScratch final : ModelScratch {
  // A place in the word: the best way that leads there.
  struct Place {
    double score;
    TokenId id;      // of its last token
    uint32_t bytes;  // of its last token; 0: no way leads there yet
  };
  struct Token {
    TokenId id;
    uint32_t bytes;
  };
  std::vector<Place> places;
  std::vector<Token> path;
};

class UnigramModel final : public TokenModel {
 public:
  // Reads {"type": "Unigram", "unk_id", "vocab": [[token, score], ...], "byte_fallback"}; the index
  // of a token is its id. Throws Error{kMalformed}, also without unk_id: a text could not be
  // encoded.
  static std::unique_ptr<const UnigramModel> parse(const JsonNode& node);

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<UnigramScratch>();
  }

 private:
  // Neighbouring tokens with the unknown id, which are one token in the end.
  struct UnknownRun {
    size_t begin = 0, end = 0;
  };
  void encode_new(std::string_view word, ModelScratch& scratch,
                  std::vector<TokenId>& out) const override;
  void read_vocabulary(const JsonNode& node);
  // The tokens that lead from the first of the scratch's places, at `begin` of the word, to the
  // last.
  void emit(std::string_view word, size_t begin, UnigramScratch& scratch, UnknownRun& unknown,
            std::vector<TokenId>& out) const;
  void emit_unknown(std::string_view word, UnknownRun& unknown, std::vector<TokenId>& out) const;

  ByteTrie trie_;
  std::vector<double> scores_;  // by id
  double unknown_score_ = 0;    // of a character that is no token
  TokenId unknown_ = -1;
  bool byte_fallback_ = false;
  std::array<TokenId, 256> fallback_{};  // the id of "<0xHH>", or -1
};

// The double that the package `tokenizers` makes of the decimal number whose nearest double is
// `nearest`: its JSON reader rounds twice, so one in eight scores differs in the last bit, and ties
// between segmentations depend on that bit.
double twice_rounded(double nearest);

}  // namespace kvasir::text

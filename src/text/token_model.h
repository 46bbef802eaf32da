#pragma once
// What turns words into ids: the interface of the model component of a tokenizer file.

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "text/token_tables.h"
#include "text/tokenizer_json.h"

namespace kvasir::text {

// Memory of one thread for encoding with one model: a bounded cache of words, and what the kind of
// model adds.
struct ModelScratch {
  virtual ~ModelScratch() = default;
  WordCache cache;
};

// Immutable and thread-safe; a scratch serves one thread at a time and one model only.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual std::unique_ptr<ModelScratch> make_scratch() const = 0;

  // Appends the ids of a word: valid UTF-8, or any bytes for a BPE that works on bytes. Words seen
  // lately cost one look-up and no virtual call.
  void encode(std::string_view word, ModelScratch& scratch, std::vector<TokenId>& out) const {
    if (word.empty() || scratch.cache.find(word, out)) return;
    const size_t before = out.size();
    encode_new(word, scratch, out);
    scratch.cache.insert(word, std::span(out).subspan(before));
  }

  // The first place at or after `from` + `at_least` (and before the end) where `word` may be cut so
  // that encoding the parts one by one gives the ids of the whole; word.size() if there is none.
  virtual size_t safe_cut(std::string_view word, size_t from, size_t at_least) const {
    (void)from, (void)at_least;
    return word.size();
  }

  const TokenMap& vocabulary() const { return vocabulary_; }

 protected:
  // encode() for a word that is not in the cache and not empty.
  virtual void encode_new(std::string_view word, ModelScratch& scratch,
                          std::vector<TokenId>& out) const = 0;
  // The id of the token that `node` names. Throws Error{kMalformed} where there is none.
  TokenId find_token(const JsonNode& node) const;

  TokenMap vocabulary_;
};

// Reads {"token": id, ...}, every id once. Throws Error{kMalformed}.
TokenMap read_vocabulary(const JsonNode& node);

}  // namespace kvasir::text

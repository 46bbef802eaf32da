#pragma once
// What a Tokenizer is made of. Internal to the tokenizer's own files.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/token_model.h"
#include "text/tokenizer.h"
#include "text/tokenizer_added.h"

namespace kvasir::text {

// Scratch memory of the threads that encode with one model, handed out one at a time and kept for
// the next.
class ScratchPool {
 public:
  class Lease {
   public:
    Lease(ScratchPool& pool, const TokenModel& model) : pool_(pool), scratch_(pool.take(model)) {}
    ~Lease() { pool_.give(std::move(scratch_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ModelScratch& operator*() const { return *scratch_; }

   private:
    ScratchPool& pool_;
    std::unique_ptr<ModelScratch> scratch_;
  };

 private:
  std::unique_ptr<ModelScratch> take(const TokenModel& model);
  void give(std::unique_ptr<ModelScratch> scratch);

  std::mutex mutex_;
  std::vector<std::unique_ptr<ModelScratch>> free_;  // guarded by mutex_
};

struct Tokenizer::Impl {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const TokenModel> model;
  AddedVocabulary added;
  PostProcessor post_processor;
  Decoder decoder;

  // By id: the token as the file spells it, and as decoding starts from it (an added token may be
  // normalised). Views into the model's arena and the added tokens.
  std::vector<std::string_view> tokens;
  std::vector<std::string_view> decoded;
  std::vector<bool> special;  // by the text that decoding starts from
  TokenMap added_ids;

  mutable ScratchPool scratch;

  void parse(std::string_view json, std::string_view origin);
  void index_tokens(std::string_view origin);
  // The ids without post-processing. `pool` may be null.
  std::vector<TokenId> encode(std::string_view text, ThreadPool* pool, bool parse_special) const;
  void encode_piece(Piece piece, ThreadPool* pool, std::vector<TokenId>& out) const;
  // The same ids by all threads of the pool: for a piece that the pre-tokeniser cuts by a pattern
  // first, and for a piece or a word that may be cut at places known beforehand (false, and nothing
  // done, where there is no such place).
  void encode_chunks(Piece piece, ThreadPool& pool, std::vector<TokenId>& out) const;
  bool encode_parts(Piece piece, ThreadPool& pool, std::vector<TokenId>& out) const;
  bool encode_word_parts(std::string_view word, ThreadPool& pool, std::vector<TokenId>& out) const;
};

}  // namespace kvasir::text

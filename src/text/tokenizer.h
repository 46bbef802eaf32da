#pragma once
// Text to token ids and back, as a Hugging Face tokenizer.json describes it: byte-level BPE (GPT-2,
// Llama 3, Qwen), SentencePiece-style BPE with byte fallback (Llama 2), Unigram (T5, XLM-R) and
// WordPiece (BERT). Ids and texts equal those of the Python package `tokenizers`.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir {
class ThreadPool;
}

namespace kvasir::text {

using TokenId = int32_t;

struct EncodeOptions {
  // Run the post-processor (which adds <s> and the like).
  bool add_special_tokens = true;
  // Recognise special added tokens inside the text. False for text from outside that must not
  // smuggle them in: they are read as plain characters. Added tokens that the file does not mark
  // special are recognised either way.
  bool parse_special = true;
};

// Immutable and thread-safe; moving is cheap. A moved-from tokenizer may only be assigned to.
class Tokenizer {
 public:
  // Reads a tokenizer.json. Errors: kNotFound, kIo, kMalformed, kUnsupported (a component that is
  // not offered; the message names it and what is).
  static Result<Tokenizer> load(const std::filesystem::path& tokenizer_json);
  // The same from memory; `origin` names the bytes in errors.
  static Result<Tokenizer> parse(std::string_view json, std::string_view origin);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The ids of `text`. Invalid UTF-8 is read as U+FFFD, as Python's decode("utf-8", "replace").
  // Throws Error{kResourceExhausted} where a split expression of the file backtracks without end.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;
  // The same ids, large texts worked on by all threads of `pool`.
  std::vector<TokenId> encode(std::string_view text, ThreadPool& pool,
                              EncodeOptions options = {}) const;

  // The text of `ids`: valid UTF-8. Ids that are no tokens are left out; with `skip_special`
  // special tokens, too.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;

  // The highest id + 1, added tokens included.
  int vocab_size() const;
  std::optional<TokenId> token_to_id(std::string_view token) const;
  // The token as the file spells it ("Ġthe", "▁the"); "" where there is none. Lives as long as the
  // tokenizer.
  std::string_view id_to_token(TokenId id) const;
  bool is_special(TokenId id) const;

 private:
  friend class TokenDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// Decoding token by token. What push() and finish() return, joined, equals Tokenizer::decode of all
// ids; each part is valid UTF-8. A part is held back while later ids may change it: the bytes of an
// unfinished character, a run of byte-fallback tokens, trailing characters that the decoder strips.
// Decoders that rewrite the whole text (Replace or ByteFallback behind Fuse) give it in finish().
class TokenDecoder {
 public:
  // `tokenizer` must stay where it is for the life of the decoder.
  explicit TokenDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  TokenDecoder(TokenDecoder&&) noexcept;
  TokenDecoder& operator=(TokenDecoder&&) noexcept;
  ~TokenDecoder();

  std::string push(TokenId id);
  // The rest. The decoder then starts anew.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvasir::text

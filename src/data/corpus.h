#pragma once
// A corpus as tokens: the titles of a manifest, tokenised once into shards and mapped from there.

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/manifest.h"
#include "data/shard.h"

namespace kvasir::data {

struct CorpusOptions {
  Manifest manifest;
  std::filesystem::path folder;           // of the texts; not read where all shards are there
  std::filesystem::path tokenizer_json;   // the ids are its
  std::filesystem::path shards;           // folder, made where it is not there
  size_t shard_bytes = size_t{32} << 20;  // of text, about
};

class Corpus {
 public:
  // Opens the shards; builds those that are not there, damaged, or of other texts or another
  // tokenizer. `done` is told bytes of text done and all bytes to do, by the calling thread; never
  // where there is nothing to do. Errors: those of check_corpus() and of reading; kMalformed (a
  // text that is not UTF-8); kIo with the path and the system's reason, and no half shard is left.
  static Result<Corpus> open(const CorpusOptions& options, ThreadPool& pool,
                             const ByteProgress& done = nullptr);

  // Sorted by name, as in the manifest. Without special tokens.
  size_t size() const { return texts_.size(); }
  const std::string& name(size_t text) const { return texts_[text]->name; }
  const TokenView& tokens(size_t text) const { return texts_[text]->tokens; }
  int64_t total_tokens() const;
  // The text with this name, or null.
  const TokenView* find(std::string_view name) const;

  // SHA-256 of the tokenizer and all texts: the same wherever the tokens are the same.
  const std::string& source() const { return source_; }
  int64_t shards_built() const { return shards_built_; }
  size_t shards() const { return shards_.size(); }

 private:
  std::vector<Shard> shards_;
  std::vector<const ShardText*> texts_;
  std::string source_;
  int64_t shards_built_ = 0;
};

}  // namespace kvasir::data

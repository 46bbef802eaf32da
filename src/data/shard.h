#pragma once
// Shards: tokenised texts in one memory-mapped file.
//
//   header     64 bytes: magic, version, bytes of a token (2 or 4), texts, tokens, bytes of the
//              names, checksum of all that follows
//   source     64 hexadecimal digits: the hash of what the shard was made of
//   ends       texts x u64: behind the last token of each text
//   names      texts x u32 sizes, then the names; zeros up to a multiple of 64
//   tokens     u16 or u32
//
// All numbers are little-endian.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace kvasir::data {

// Tokens of a shard; borrows its memory.
class TokenView {
 public:
  TokenView() = default;
  TokenView(const std::byte* data, int token_bytes, int64_t size)
      : data_(data), token_bytes_(token_bytes), size_(size) {}

  int64_t size() const { return size_; }
  // Tokens [first, first + out.size()), which must be there.
  void copy(int64_t first, std::span<int32_t> out) const;

 private:
  const std::byte* data_ = nullptr;
  int token_bytes_ = 4;
  int64_t size_ = 0;
};

struct ShardText {
  std::string name;
  TokenView tokens;
};

// What the bytes of a shard say. Everything is checked: sizes, order, the checksum. Errors:
// kMalformed.
struct ShardContent {
  std::string source;
  std::vector<ShardText> texts;
};
Result<ShardContent> parse_shard(std::span<const std::byte> file, std::string_view origin);

// The checksum that a file of these bytes should have, and where in the header it stands.
uint64_t shard_checksum(std::span<const std::byte> file);
inline constexpr size_t kShardChecksumAt = 40;

class Shard {
 public:
  // Errors: kNotFound, kIo, kMalformed.
  static Result<Shard> open(const std::filesystem::path& path);

  const std::string& source() const { return content_.source; }
  std::span<const ShardText> texts() const { return content_.texts; }

 private:
  Shard(MappedFile file, ShardContent content)
      : file_(std::move(file)), content_(std::move(content)) {}
  MappedFile file_;
  ShardContent content_;
};

struct TextToWrite {
  std::string name;
  std::vector<int32_t> tokens;
};

// Writes the file whole or not at all; tokens take 2 bytes where `vocab_size` allows. Errors: kIo.
Result<void> write_shard(const std::filesystem::path& path, std::string_view source,
                         std::span<const TextToWrite> texts, int64_t vocab_size);

}  // namespace kvasir::data

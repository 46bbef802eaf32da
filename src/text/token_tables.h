#pragma once
// Flat hash tables of the models: token to id, pair to merge, and a cache of words.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvasir::text {

using TokenId = int32_t;

// Ids above this are taken for a damaged file.
constexpr TokenId kMaxTokenId = (1 << 22) - 1;

// A 64-bit hash of bytes, for tables in memory only.
inline uint64_t hash_bytes(std::string_view text) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;
  uint64_t hash = text.size() * kMultiplier;
  const char* p = text.data();
  size_t left = text.size();
  while (left >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 29;
    p += 8;
    left -= 8;
  }
  uint64_t tail = 0;
  std::memcpy(&tail, p, left);
  hash = (hash ^ tail) * kMultiplier;
  return hash ^ hash >> 32;
}

// Token text to id. Texts are copied into one arena.
class TokenMap {
 public:
  // False, and nothing changed, where the text is there already.
  bool insert(std::string_view text, TokenId id);
  TokenId find(std::string_view text) const;  // -1 where absent
  // A further id of a text that is there already: an entry that find() passes over.
  void insert_shadowed(std::string_view text, TokenId id);
  size_t size() const { return entries_.size(); }
  std::string_view text(size_t entry) const {
    return std::string_view(arena_).substr(entries_[entry].offset, entries_[entry].size);
  }
  TokenId id(size_t entry) const { return entries_[entry].id; }

 private:
  struct Entry {
    size_t offset;
    uint32_t size;
    TokenId id;
  };
  struct Slot {
    uint32_t tag = 0;
    int32_t entry = -1;
  };
  void grow();
  void append(std::string_view text, TokenId id);

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
};

// (left id, right id) to the rank of their merge and the id that it makes.
class MergeMap {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  void reserve(size_t merges);
  // A later merge of the same pair replaces an earlier one.
  void insert(TokenId left, TokenId right, uint32_t rank, TokenId result);
  uint32_t rank(TokenId left, TokenId right) const {
    for (size_t slot = slot_of(left, right);; slot = (slot + 1) & mask_) {
      const Slot& found = slots_[slot];
      if (found.rank == kNone || (found.left == left && found.right == right)) return found.rank;
    }
  }
  TokenId result(uint32_t rank) const { return results_[rank]; }

 private:
  struct Slot {
    TokenId left = -1, right = -1;
    uint32_t rank = kNone;
  };
  size_t slot_of(TokenId left, TokenId right) const {
    const uint64_t key =
        static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    return static_cast<size_t>(key * 0x9E3779B97F4A7C15ull >> shift_);
  }

  std::vector<Slot> slots_{4};  // a power of two, at most half full
  size_t mask_ = 3;
  int shift_ = 62;
  std::vector<TokenId> results_;
};

// Words and their ids. Bounded: a new word may displace another. Belongs to one thread.
class WordCache {
 public:
  // Appends the ids of `word` to `out`; false where it is not cached.
  bool find(std::string_view word, std::vector<TokenId>& out) const;
  void insert(std::string_view word, std::span<const TokenId> ids);

 private:
  static constexpr size_t kShortBytes = 16, kShortIds = 3, kLongBytes = 512;
  static constexpr int kShortBits = 15, kLongBits = 13;
  static constexpr size_t kArenaBytes = 2 << 20;

  // Words of up to 16 bytes and 3 ids lie in the table itself, the others in an arena.
  struct ShortEntry {
    uint64_t low = 0, high = 0;
    uint16_t bytes = 0, count = 0;  // bytes == 0: empty
    TokenId ids[kShortIds] = {};
  };
  struct LongEntry {
    uint64_t hash = 0;
    uint32_t offset = 0;
    uint16_t bytes = 0, count = 0;  // bytes == 0: empty
  };

  std::vector<ShortEntry> short_;
  std::vector<LongEntry> long_;
  std::vector<char> arena_;
};

}  // namespace kvasir::text

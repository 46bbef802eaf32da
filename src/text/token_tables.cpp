#include "text/token_tables.h"

#include <algorithm>
#include <bit>

namespace kvasir::text {

bool TokenMap::insert(std::string_view text, TokenId id) {
  if (find(text) >= 0) return false;
  append(text, id);
  return true;
}

// Later entries of a text stand behind earlier ones in every chain of slots.
void TokenMap::insert_shadowed(std::string_view text, TokenId id) { append(text, id); }

void TokenMap::append(std::string_view text, TokenId id) {
  if (entries_.size() * 2 >= slots_.size()) grow();
  const uint64_t hash = hash_bytes(text);
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  while (slots_[slot].entry >= 0) slot = (slot + 1) & mask;
  slots_[slot] = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(entries_.size())};
  entries_.push_back({arena_.size(), static_cast<uint32_t>(text.size()), id});
  arena_.append(text);
}

TokenId TokenMap::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const uint64_t hash = hash_bytes(text);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask; slots_[slot].entry >= 0; slot = (slot + 1) & mask) {
    if (slots_[slot].tag != tag) continue;
    const auto entry = static_cast<size_t>(slots_[slot].entry);
    if (this->text(entry) == text) return entries_[entry].id;
  }
  return -1;
}

void TokenMap::grow() {
  slots_.assign(std::max<size_t>(16, slots_.size() * 2), {});
  const size_t mask = slots_.size() - 1;
  for (size_t entry = 0; entry < entries_.size(); ++entry) {
    const uint64_t hash = hash_bytes(text(entry));
    size_t slot = hash & mask;
    while (slots_[slot].entry >= 0) slot = (slot + 1) & mask;
    slots_[slot] = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(entry)};
  }
}

void MergeMap::reserve(size_t merges) {
  const size_t size = std::bit_ceil(std::max<size_t>(4, merges * 2));
  slots_.assign(size, {});
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
  results_.assign(merges, -1);
}

void MergeMap::insert(TokenId left, TokenId right, uint32_t rank, TokenId result) {
  size_t slot = slot_of(left, right);
  while (slots_[slot].rank != kNone && (slots_[slot].left != left || slots_[slot].right != right)) {
    slot = (slot + 1) & mask_;
  }
  slots_[slot] = {left, right, rank};
  results_[rank] = result;
}

namespace {

// Up to 16 bytes as two words; together with the length they are the bytes.
void load_key(std::string_view word, uint64_t& low, uint64_t& high) {
  const char* p = word.data();
  const size_t n = word.size();
  high = 0;
  if (n >= 8) {
    std::memcpy(&low, p, 8);
    std::memcpy(&high, p + n - 8, 8);
  } else if (n >= 4) {
    uint32_t first, last;
    std::memcpy(&first, p, 4);
    std::memcpy(&last, p + n - 4, 4);
    low = static_cast<uint64_t>(last) << 32 | first;
  } else {
    const auto byte = [&](size_t i) { return static_cast<uint64_t>(static_cast<uint8_t>(p[i])); };
    low = byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16;
  }
}

size_t short_slot(uint64_t low, uint64_t high, int bits) {
  uint64_t hash = (low ^ std::rotl(high, 23)) * 0x9E3779B97F4A7C15ull;
  hash = (hash ^ hash >> 31) * 0xBF58476D1CE4E5B9ull;
  return static_cast<size_t>(hash >> (64 - bits));
}

}  // namespace

bool WordCache::find(std::string_view word, std::vector<TokenId>& out) const {
  if (word.size() <= kShortBytes) {
    if (short_.empty()) return false;
    uint64_t low, high;
    load_key(word, low, high);
    const ShortEntry& entry = short_[short_slot(low, high, kShortBits)];
    if (entry.low == low && entry.high == high && entry.bytes == word.size()) {
      out.insert(out.end(), entry.ids, entry.ids + entry.count);
      return true;
    }
  }
  if (word.size() > kLongBytes || long_.empty()) return false;
  const uint64_t hash = hash_bytes(word);
  const LongEntry& entry = long_[hash >> (64 - kLongBits)];
  if (entry.hash != hash || entry.bytes != word.size()) return false;
  const char* stored = arena_.data() + entry.offset;
  if (std::memcmp(stored, word.data(), word.size()) != 0) return false;
  if (entry.count == 0) return true;  // a word of a model without tokens
  const size_t before = out.size();
  out.resize(before + entry.count);
  std::memcpy(out.data() + before, stored + word.size(), entry.count * sizeof(TokenId));
  return true;
}

void WordCache::insert(std::string_view word, std::span<const TokenId> ids) {
  if (word.empty() || word.size() > kLongBytes) return;
  if (word.size() <= kShortBytes && ids.size() <= kShortIds) {
    if (short_.empty()) short_.resize(size_t{1} << kShortBits);
    uint64_t low, high;
    load_key(word, low, high);
    ShortEntry& entry = short_[short_slot(low, high, kShortBits)];
    entry = {low, high, static_cast<uint16_t>(word.size()), static_cast<uint16_t>(ids.size())};
    std::ranges::copy(ids, entry.ids);
    return;
  }
  const size_t id_bytes = ids.size() * sizeof(TokenId);
  if (arena_.size() + word.size() + id_bytes > kArenaBytes || long_.empty()) {
    arena_.clear();
    long_.assign(size_t{1} << kLongBits, {});
  }
  const uint64_t hash = hash_bytes(word);
  long_[hash >> (64 - kLongBits)] = {hash, static_cast<uint32_t>(arena_.size()),
                                     static_cast<uint16_t>(word.size()),
                                     static_cast<uint16_t>(ids.size())};
  arena_.insert(arena_.end(), word.begin(), word.end());
  const char* bytes = reinterpret_cast<const char*>(ids.data());
  arena_.insert(arena_.end(), bytes, bytes + id_bytes);
}

}  // namespace kvasir::text

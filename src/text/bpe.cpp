#include "text/bpe.h"

#include <algorithm>
#include <functional>

#include "text/unicode.h"

namespace kvasir::text {

namespace {

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr size_t kShortWord = 40;  // up to here a scan for the best merge beats a heap

}  // namespace

void BpeModel::encode_new(std::string_view word, ModelScratch& memory,
                          std::vector<TokenId>& out) const {
  auto& scratch = static_cast<BpeScratch&>(memory);
  size_t end = safe_cut(word, 0, 1);
  if (end == word.size()) return encode_part(word, scratch, out);
  for (size_t begin = 0; begin < word.size();) {
    const std::string_view part = word.substr(begin, end - begin);
    if (!scratch.cache.find(part, out)) {
      const size_t before = out.size();
      encode_part(part, scratch, out);
      scratch.cache.insert(part, std::span(out).subspan(before));
    }
    begin = end;
    end = safe_cut(word, begin, 1);
  }
}

size_t BpeModel::safe_cut(std::string_view word, size_t from, size_t at_least) const {
  if (bytes_ || ignore_merges_) return word.size();
  // Between a character and a mark that no merge joins to it, where both are in the vocabulary (an
  // unknown character could fuse with its neighbour).
  for (size_t at = from + at_least; (at = word.find(kMark, at)) < word.size(); at += kMark.size()) {
    size_t before = at;
    const char32_t previous = previous_code_point(word, before);
    if (before < from) continue;
    if (character_id(previous) >= 0 && !before_mark_.contains(previous) &&
        character_id(0x2581) >= 0) {
      return at;
    }
  }
  return word.size();
}

TokenId BpeModel::whole_word(std::string_view word) const {
  return (bytes_ ? raw_vocabulary_ : vocabulary_).find(word);
}

TokenId BpeModel::character_id(char32_t c) const {
  if (c < character_start_.size()) return character_start_[c];
  const auto found = character_start_high_.find(c);
  return found == character_start_high_.end() ? -1 : found->second;
}

void BpeModel::encode_part(std::string_view part, BpeScratch& scratch,
                           std::vector<TokenId>& out) const {
  const TokenId whole = ignore_merges_ ? whole_word(part) : -1;
  if (whole >= 0) return out.push_back(whole);
  scratch.ids.clear();
  append_starts(part, scratch.ids);
  if (scratch.ids.size() > kShortWord) {
    merge_long(scratch);
  } else if (scratch.ids.size() > 1) {
    merge_short(scratch);
  }
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

void BpeModel::append_start(TokenId id, std::string_view unit, bool& pending_unknown,
                            std::vector<TokenId>& ids) const {
  if (id >= 0) {
    if (pending_unknown) ids.push_back(unknown_);
    pending_unknown = false;
    ids.push_back(id);
    return;
  }
  if (byte_fallback_ && std::ranges::all_of(unit, [&](char byte) {
        return fallback_[static_cast<uint8_t>(byte)] >= 0;
      })) {
    // An unknown that still waits comes out behind these bytes: so the reference does.
    for (const char byte : unit) ids.push_back(fallback_[static_cast<uint8_t>(byte)]);
    return;
  }
  if (unknown_ < 0) return;  // without an unknown token such characters vanish
  if (pending_unknown && !fuse_unknown_) ids.push_back(unknown_);
  pending_unknown = true;
}

void BpeModel::append_starts(std::string_view part, std::vector<TokenId>& ids) const {
  bool pending_unknown = false;
  if (bytes_) {
    for (const char c : part) {
      const auto byte = static_cast<uint8_t>(c);
      if (byte_start_[byte] >= 0 && !pending_unknown) {
        ids.push_back(byte_start_[byte]);
        continue;
      }
      std::string unit;
      append_utf8(byte_to_char(byte), unit);
      append_start(byte_start_[byte], unit, pending_unknown, ids);
    }
  } else {
    for (size_t at = 0; at < part.size();) {
      const size_t begin = at;
      const TokenId id = character_id(next_code_point(part, at));
      append_start(id, part.substr(begin, at - begin), pending_unknown, ids);
    }
  }
  if (pending_unknown) ids.push_back(unknown_);
}

// Repeatedly merges the leftmost pair of lowest rank, found by a scan.
void BpeModel::merge_short(BpeScratch& scratch) const {
  std::vector<TokenId>& ids = scratch.ids;
  uint32_t ranks[kShortWord];
  size_t pairs = ids.size() - 1;
  for (size_t i = 0; i < pairs; ++i) ranks[i] = merges_.rank(ids[i], ids[i + 1]);
  while (pairs > 0) {
    size_t best = 0;
    for (size_t i = 1; i < pairs; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == MergeMap::kNone) break;
    ids[best] = merges_.result(ranks[best]);
    for (size_t i = best + 1; i < pairs; ++i) {
      ids[i] = ids[i + 1];
      ranks[i - 1] = ranks[i];
    }
    --pairs;
    if (best < pairs) ranks[best] = merges_.rank(ids[best], ids[best + 1]);
    if (best > 0) ranks[best - 1] = merges_.rank(ids[best - 1], ids[best]);
  }
  ids.resize(pairs + 1);
}

// The same with a heap of (rank, position) and a linked list: O(n log n).
void BpeModel::merge_long(BpeScratch& scratch) const {
  std::vector<TokenId>& ids = scratch.ids;
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<int32_t>(ids.size());
  symbols.resize(ids.size());
  heap.clear();
  const auto entry = [](uint32_t rank, int32_t position) {
    return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(position);
  };
  for (int32_t i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    const uint32_t rank = last ? MergeMap::kNone : merges_.rank(ids[i], ids[i + 1]);
    symbols[i] = {ids[i], i - 1, last ? -1 : i + 1, rank};
    if (rank != MergeMap::kNone) heap.push_back(entry(rank, i));
  }
  std::ranges::make_heap(heap, std::greater());
  const auto refresh = [&](int32_t position) {
    BpeScratch::Symbol& symbol = symbols[position];
    symbol.rank =
        symbol.next < 0 ? MergeMap::kNone : merges_.rank(symbol.id, symbols[symbol.next].id);
    if (symbol.rank == MergeMap::kNone) return;
    heap.push_back(entry(symbol.rank, position));
    std::ranges::push_heap(heap, std::greater());
  };
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto position = static_cast<int32_t>(heap.back() & UINT32_MAX);
    heap.pop_back();
    BpeScratch::Symbol& symbol = symbols[position];
    if (symbol.rank != rank) continue;  // the pair has changed since
    BpeScratch::Symbol& gone = symbols[symbol.next];
    symbol.id = merges_.result(rank);
    symbol.next = gone.next;
    gone.rank = MergeMap::kNone;
    if (gone.next >= 0) symbols[gone.next].previous = position;
    refresh(position);
    if (symbol.previous >= 0) refresh(symbol.previous);
  }
  ids.clear();
  for (int32_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace kvasir::text

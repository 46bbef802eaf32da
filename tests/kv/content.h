#pragma once
// Bytes of K and V that tell whose they are: every row is a hash of the domain, all tokens up to
// its position, the layer, the head and the plane.

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include "kv/kv_manager.h"

namespace kvasir::kv::test {

using Tokens = std::vector<TokenId>;

inline constexpr int kLayers = 3;
inline constexpr int kHeads = 2;
inline constexpr KvGeometry kGeometry{.layers = kLayers,
                                      .dtype = DType::kBF16,
                                      .kv_heads = kHeads,
                                      .head_dim = 4};  // rows of 8 bytes

inline uint64_t scramble(uint64_t value) {
  value = (value ^ (value >> 31)) * 0x7fb5d329728ea185ull;
  value = (value ^ (value >> 27)) * 0x81dadef4bc2dd44dull;
  return value ^ (value >> 33);
}

inline uint64_t start_history(Domain domain) { return scramble(domain + 0x1234567); }
inline uint64_t next_history(uint64_t history, TokenId token) {
  return scramble(history * 3 + static_cast<uint32_t>(token) + 1);
}

inline uint64_t* row(const KvManager& kv, SequenceId sequence, int layer, int plane, int64_t pos) {
  const uint32_t page = kv.page_table(sequence, layer)[pos / kBlockTokens];
  return reinterpret_cast<uint64_t*>(kv.page_pool().page(page)) + plane * kBlockTokens +
         pos % kBlockTokens;
}

inline uint64_t row_content(uint64_t history, int layer, int plane) {
  return scramble(history + static_cast<uint64_t>(layer * 16 + plane));
}

// Writes the KV of `tokens` behind what is committed.
inline void write(KvManager& kv, Domain domain, SequenceId sequence,
                  std::span<const TokenId> tokens) {
  uint64_t history = start_history(domain);
  for (TokenId token : kv.tokens(sequence)) history = next_history(history, token);
  int64_t pos = kv.length(sequence);
  for (TokenId token : tokens) {
    history = next_history(history, token);
    for (int layer = 0; layer < kLayers; ++layer)
      for (int plane = 0; plane < 2 * kHeads; ++plane)
        *row(kv, sequence, layer, plane, pos) = row_content(history, layer, plane);
    ++pos;
  }
}

// How many positions hold other bytes than their tokens ask for.
inline int64_t wrong_positions(const KvManager& kv, Domain domain, SequenceId sequence) {
  int64_t wrong = 0, pos = 0;
  uint64_t history = start_history(domain);
  for (TokenId token : kv.tokens(sequence)) {
    history = next_history(history, token);
    bool right = true;
    for (int layer = 0; layer < kLayers; ++layer)
      for (int plane = 0; plane < 2 * kHeads; ++plane)
        right &= *row(kv, sequence, layer, plane, pos) == row_content(history, layer, plane);
    wrong += !right;
    ++pos;
  }
  return wrong;
}

// Reserves, writes and commits.
inline void append(KvManager& kv, Domain domain, SequenceId sequence,
                   std::span<const TokenId> tokens) {
  kv.reserve(sequence, kv.length(sequence) + std::ssize(tokens)).value();
  write(kv, domain, sequence, tokens);
  kv.commit(sequence, tokens);
}

// Opens a sequence for `prompt` and computes what is not taken over.
inline SequenceId prefill(KvManager& kv, Domain domain, std::span<const TokenId> prompt) {
  const SequenceId sequence = kv.open(domain, prompt);
  append(kv, domain, sequence, prompt.subspan(static_cast<size_t>(kv.length(sequence))));
  return sequence;
}

// `count` tokens from `first` on.
inline Tokens counting(int64_t count, TokenId first = 0) {
  Tokens tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

inline Tokens operator+(Tokens a, std::span<const TokenId> b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline Tokens first_of(const Tokens& tokens, int64_t count) {
  return {tokens.begin(), tokens.begin() + count};
}

}  // namespace kvasir::kv::test

#pragma once
// What stands between the dispatch (paged_attention.cpp) and the code of one instruction set: plain
// structs and function names, no templates and no inline functions, because the files that
// implement them are compiled for instructions that the CPU may lack.
//
// A query block is some consecutive queries of a span times query heads of one KV head, stacked as
// rows: row i is head i % group of the query at first_position + i / group. With a plan it may hold
// several row tiles, which see different parts of the same keys. It meets the keys in blocks,
// ascending, with a plan segment by segment. Keys and values of a block are packed once,
// into operands that every row of the query block then multiplies: panels of 16 columns,
//   keys    [panel of 16 keys][steps of head_dim][16]
//   values  [panel of 16 of head_dim][steps of keys][16]
// of 4 bytes, where a step is one element in f32, or a pair of neighbours in bf16 (the order that
// the dot product of pairs and the matrix tiles want). Softmax is online and works in base 2.

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace kvasir::kernels {

inline constexpr int kMostBlockKeys = 256;  // keys packed at a time, at most
inline constexpr int kMostBlockTiles = 16;  // row tiles of a query block, at most
inline constexpr int kPanelColumns = 16;
inline constexpr int kKeyGranule = 32;     // columns of scores are computed in such groups
inline constexpr int kTileQueryRows = 32;  // query rows whose scores are computed together, at most
inline constexpr int kRowPadding = 16;     // packed queries and sums come in so many rows
// Bytes between rows of scores of 128 keys: a little more than a power of two, so that rows do not
// all fall into the same few sets of the L1 cache.
inline constexpr int kScoreRowBytes = 128 * 4 + 64;
// Scores and weights of a tile of rows, in rows, or of some as paged_attention_amx.cpp keeps them.
inline constexpr int kScoreScratchBytes = 2 * kTileQueryRows * (kMostBlockKeys * 2 + 32 * 4);
static_assert(kTileQueryRows * kScoreRowBytes <= kScoreScratchBytes);
inline constexpr int kDenominatorLanes = 16;

// The blocks of memory that a query block works in; all 64-byte aligned.
struct AttentionScratch {
  std::byte* keys = nullptr;      // packed
  std::byte* values = nullptr;    // packed
  std::byte* queries = nullptr;   // [rows, padded head_dim], zeros behind head_dim
  std::byte* scores = nullptr;    // of a tile of rows; softmax turns them into weights
  float* sums = nullptr;          // [rows, head_dim up to 16]: weighted sums of values
  float* maxima = nullptr;        // [rows], of scale * log2(e) * score; what weights are relative
                                  // to, which for bf16 need not be the largest
  float* denominators = nullptr;  // [rows, kDenominatorLanes] partial sums; finish adds them up
};

struct QueryBlock {
  const std::byte* q = nullptr;  // first row; rows of one query are adjacent
  int64_t q_row_bytes = 0;       // between queries
  int64_t rows = 0;              // stacked
  int64_t tile_rows = 0;         // stacked rows of a row tile; row 0 is the first of one
  int group = 1;
  int head_dim = 0;
  int64_t first_position = 0;
  float scale_log2 = 0;  // scale * log2(e), positive
  // Of decode: so many KV heads, each with `rows` query heads, adjacent in q. Their rows of scratch
  // are `rows_apart` apart: 4 for up to 4, else a multiple of kRowPadding.
  int kv_heads = 1;
  int64_t rows_apart = 0;
  AttentionScratch scratch;
};

// Memory that is needed soon: `count` runs of `bytes`, `stride` apart.
struct Soon {
  const std::byte* first = nullptr;
  int64_t bytes = 0;
  int64_t stride = 0;
  int64_t count = 1;
  bool is_written = false;
};

// The places of a key block that a row tile sees, but those hidden from it.
struct TilePlaces {
  int32_t first = 0;
  int32_t last = 0;
};

// Keys of a sequence that a query block meets together: those at places [begin, end) of a block, at
// ascending positions. What lies at places from `end` on is not looked at, but for the rest of a
// page what lies before `begin` is.
struct KeyBlock {
  int64_t first = 0;  // position of place 0
  int begin = 0;
  int end = 0;
  // Null: place i is position first + i, and first is a multiple of 64. Otherwise place i is
  // position positions[i >> position_keys_log2] + i % 2^position_keys_log2.
  const int32_t* positions = nullptr;
  int position_keys_log2 = 0;  // 0 or 6
  // A query at position r sees the key at position c where offset_begin <= r - c < offset_end.
  int64_t offset_begin = 0;
  int64_t offset_end = 0;
  TilePlaces tiles[kMostBlockTiles];
  // Bits of places that a row tile does not see, or null: nothing is hidden.
  const uint64_t (*hidden)[kMostBlockKeys / 64] = nullptr;
  // K of the KV head, or the first, for places 0, 64, ...; V lies behind K, then the next one's K.
  const std::byte* pages[kMostBlockKeys / 64] = {};
  // What is to be brought near while this block is worked on.
  const Soon* soon = nullptr;
  int soon_count = 0;
};

// Where results go: rows of one query are adjacent.
struct AttentionOutput {
  std::byte* out = nullptr;
  int64_t out_row_bytes = 0;
  float* lse = nullptr;  // or null
  int64_t lse_row_stride = 0;
};

// How query blocks of one kind are worked on.
struct AttentionKernel {
  // Packs the queries and clears sums, maxima and denominators.
  void (*begin)(const QueryBlock& queries);
  // Adds a block of keys. Returns the number of query-key pairs scored.
  uint64_t (*add)(const QueryBlock& queries, const KeyBlock& keys);
  // Leaves each row's denominator in its first lane; writes the results where `output` is not null.
  void (*finish)(const QueryBlock& queries, const AttentionOutput* output);
  int block_keys;  // keys of a block: a multiple of 64, kMostBlockKeys at most
};

// Decode kernels take query blocks of one query and some KV heads, meet keys and values where they
// lie, and write no results. From begin to finish the matrix tiles are theirs.
extern const AttentionKernel kPrefillF32Avx2, kDecodeF32Avx2;
extern const AttentionKernel kPrefillBf16Avx2, kDecodeBf16Avx2;
extern const AttentionKernel kPrefillF32Avx512, kDecodeF32Avx512;
extern const AttentionKernel kPrefillBf16Avx512, kDecodeBf16Avx512;
extern const AttentionKernel kPrefillBf16Avx512Bf16;
extern const AttentionKernel kPrefillBf16Amx, kDecodeBf16Amx;  // decode: head_dim % 32 == 0

}  // namespace kvasir::kernels

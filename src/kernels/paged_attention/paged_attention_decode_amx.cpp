// Decode on bf16 pages where the CPU has matrix tiles: the query heads of a KV head, up to 16, are
// one operand of both products, so that keys and values are met once for all of them.
//
// Keys are multiplied as they lie: 16 keys x 32 elements times [32 elements][heads] give scores as
// [key][head], which are turned round for the softmax. Values lie as [key][column], and a tile
// wants pairs of keys side by side: two rows 16 keys apart, as their weights are paired, are
// interleaved on the way.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 128;

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"
#include "kernels/paged_attention/paged_attention_tiles.inc"

constexpr int kSlotRows = 16;  // query heads that are worked on together
constexpr int kFewRows = 4;    // up to so many take scores of 16 bytes a key
constexpr int64_t kLineElements = kInterleavedColumns;  // of 64 bytes
constexpr int64_t kGranulesAhead = 2;                   // granules of values whose pairs are kept
// Of the 64 lines that the keys and values of a granule and of kLineElements take, how many of the
// next block are fetched at each step: as the steps take their time.
constexpr int kScoreFetch = 24, kWeighFetch = 4, kPairFetch = 20, kSumFetch = 16;

// Tiles 0 and 1: scores of 16 keys; 2 and 3: keys, or values; 4: query heads; 5: weights of the
// rows of a slot; 6 and 7: their sums.
void configure_tiles(int64_t rows) {
  TileConfig config;
  for (int tile : {0, 1, 4})
    config.row_bytes[tile] = static_cast<uint16_t>((rows <= kFewRows ? kFewRows : kSlotRows) * 4);
  for (int tile : {5, 6, 7}) config.rows[tile] = static_cast<uint8_t>(rows);
  load_config(config);
}

// Packs query heads as B operands: every 16 x 16 block of pairs of the packed queries transposed.
void begin_decode(const QueryBlock& queries) {
  begin_queries<PairsOp>(queries);
  const int64_t query_bytes = padded_steps<PairsOp>(queries.head_dim) * kStepBytes;
  for (int64_t row = 0; row < queries.rows; row += kSlotRows)
    for (int64_t i = 0; i < query_bytes; i += 64) {
      std::byte* block = queries.scratch.queries + row * query_bytes + i;
      Bits rows[kWidth];
      for (int r = 0; r < kWidth; ++r) rows[r] = load_bits(block + r * query_bytes);
      transpose(rows);
      for (int r = 0; r < kWidth; ++r) store_bits(block + r * query_bytes, rows[r]);
    }
}

// [16 keys][4 heads] to rows of scores.
inline void turn_few(const float* x, float* scores) {
  const Vec a = load(x), b = load(x + kWidth), c = load(x + 2 * kWidth), d = load(x + 3 * kWidth);
  const auto pair = [](Vec v) { return _mm512_castps_pd(v); };
  const __m512d low_ab = pair(_mm512_unpacklo_ps(a, b)), high_ab = pair(_mm512_unpackhi_ps(a, b));
  const __m512d low_cd = pair(_mm512_unpacklo_ps(c, d)), high_cd = pair(_mm512_unpackhi_ps(c, d));
  // Key 4 v + l has come to lane 4 l + v.
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const auto put = [&](int row, __m512d v) {
    store(scores + row * (kScoreRowBytes / 4), _mm512_permutexvar_ps(order, _mm512_castpd_ps(v)));
  };
  put(0, _mm512_unpacklo_pd(low_ab, low_cd));
  put(1, _mm512_unpackhi_pd(low_ab, low_cd));
  put(2, _mm512_unpacklo_pd(high_ab, high_cd));
  put(3, _mm512_unpackhi_pd(high_ab, high_cd));
}

// [16 keys][16 heads] to rows of scores.
inline void turn_many(const float* x, float* scores) {
  Bits rows[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i)
    rows[i] = load_bits(reinterpret_cast<const std::byte*>(x + i * kWidth));
  transpose(rows);
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i)
    store_bits(reinterpret_cast<std::byte*>(scores + i * (kScoreRowBytes / 4)), rows[i]);
}

void score_slot(const QueryBlock& queries, const KeyBlock& keys, const Columns& columns,
                int64_t row, int width, NextBlock& next) {
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  const int64_t query_bytes = padded_steps<PairsOp>(queries.head_dim) * kStepBytes;
  const std::byte* b = queries.scratch.queries + row * query_bytes;
  float* scores = reinterpret_cast<float*>(queries.scratch.scores);
  alignas(64) float turned[kKeyGranule * kSlotRows];
  for (int key = columns.first; key < columns.last; key += kKeyGranule) {
    const std::byte* a = key_row(keys, key, row_bytes);
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t i = 0; i < row_bytes; i += 64) {
      _tile_loadd(4, b + i, query_bytes);
      _tile_loadd(2, a + i, row_bytes);
      _tile_dpbf16ps(0, 2, 4);
      _tile_loadd(3, a + kTileRows * row_bytes + i, row_bytes);
      _tile_dpbf16ps(1, 3, 4);
      next.fetch(kScoreFetch);
    }
    _tile_stored(0, turned, width * 4);
    _tile_stored(1, turned + kTileRows * width, width * 4);
    for (int half = 0; half < kKeyGranule; half += kTileRows) {
      if (width == kFewRows)
        turn_few(turned + half * width, scores + key + half);
      else
        turn_many(turned + half * width, scores + key + half);
    }
  }
}

// Adds the weighted values of the columns, a granule of keys and kLineElements columns at a time.
// A granule is multiplied only when the next one is on its way, because reading what was written
// just before stalls.
void sum_slot(const QueryBlock& queries, const KeyBlock& keys, const Columns& columns, int64_t row,
              NextBlock& next) {
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  const int64_t c_row_bytes = int64_t{queries.head_dim} * 4;
  const int granules = (columns.last - columns.first) / kKeyGranule;
  const int64_t steps = row_bytes / 64 * granules;
  const std::byte* weights = queries.scratch.scores + columns.first * 2;
  const auto pairs = [&](int64_t step) {
    return queries.scratch.values + step % kGranulesAhead * (2 * kTileBytes);
  };
  float* c = queries.scratch.sums + row * queries.head_dim;
  int paired = 0, granule = 0;  // the granules that come next
  int64_t offset = 0;
  for (int64_t step = 0; step < steps + kGranulesAhead - 1; ++step) {
    if (step < steps) {
      const int key = columns.first + paired * kKeyGranule;
      pair_values(key_row(keys, key, row_bytes) + 64 * row_bytes + offset, row_bytes,
                  keys.end - key, pairs(step), pairs(step) + kTileBytes);
      next.fetch(kPairFetch);
      if (++paired == granules) {
        paired = 0;
        offset += 64;
      }
    }
    if (step < kGranulesAhead - 1) continue;
    memory_is_read();
    if (granule == 0) {
      _tile_loadd(6, c, c_row_bytes);
      _tile_loadd(7, c + kPanelColumns, c_row_bytes);
    }
    const std::byte* b = pairs(step - (kGranulesAhead - 1));
    _tile_loadd(5, weights + granule * kKeyGranule * 2, kScoreRowBytes);
    _tile_loadd(2, b, 64);
    _tile_dpbf16ps(6, 5, 2);
    _tile_loadd(3, b + kTileBytes, 64);
    _tile_dpbf16ps(7, 5, 3);
    next.fetch(kSumFetch);
    if (++granule == granules) {
      granule = 0;
      _tile_stored(6, c, c_row_bytes);
      _tile_stored(7, c + kPanelColumns, c_row_bytes);
      c += kLineElements;
    }
  }
}

uint64_t decode_keys(const QueryBlock& queries, const KeyBlock& keys) {
  const Columns columns = visible_columns(queries, keys, 0, queries.rows);
  if (columns.last <= columns.first) return 0;
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  NextBlock next(keys, 0);
  for (int64_t row = 0; row < queries.rows; row += kSlotRows) {
    const int64_t rows = queries.rows - row < kSlotRows ? queries.rows - row : kSlotRows;
    if (row == 0 || rows < kSlotRows) configure_tiles(rows);
    score_slot(queries, keys, columns, row, rows <= kFewRows ? kFewRows : kSlotRows, next);
    for (Softmax softmax(queries, keys, row, rows, columns,
                         reinterpret_cast<float*>(queries.scratch.scores));
         !softmax.done();) {
      softmax.advance();
      next.fetch(kWeighFetch * row_bytes / 64 * 4 * kRowsWeighed / round_up(rows, kRowsWeighed));
    }
    sum_slot(queries, keys, columns, row, next);
  }
  _tile_release();
  return static_cast<uint64_t>(queries.rows * (columns.last - columns.first));
}

}  // namespace

const AttentionKernel kDecodeBf16Amx = {begin_decode, decode_keys, finish_queries<PairsOp>,
                                        kBlockKeys};

}  // namespace kvasir::kernels

// bf16 pages where the CPU has matrix tiles: 16 rows x 32 elements of A times 32 x 16 of B in one
// instruction. Scores, softmax and weighted sums of a few query rows follow one another while their
// scores are in the L1 cache; the tile unit shares ports with the vector units, so that running
// them side by side gains nothing.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"
#include "kernels/paged_attention/paged_attention_tiles.inc"

void configure_tiles() {
  const TileConfig config;
  _tile_loadconfig(&config);
}

// Some query rows and the columns of the key block that they meet.
struct RowTile {
  int64_t row;
  int64_t rows;
  Columns columns;
};

struct Geometry {
  int64_t query_bytes;  // between packed queries
  int64_t head_tiles;   // of head_dim, 32 elements each
  int64_t columns;      // of sums
};

// Tiles 0 to 3 hold sums [rows 0-15, 16-31] x [two panels], 4 and 5 rows of A, 6 and 7 panels of B.
// With kHalves = 1 there are rows 0 to 15 alone.
template <int kHalves>
inline void multiply_tiles(const std::byte* a, int64_t a_row_bytes, const std::byte* b0,
                           const std::byte* b1) {
  _tile_loadd(6, b0, 64);
  _tile_loadd(4, a, a_row_bytes);
  _tile_dpbf16ps(0, 4, 6);
  if (b1) {
    _tile_loadd(7, b1, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
  if constexpr (kHalves == 2) {
    _tile_loadd(5, a + kTileRows * a_row_bytes, a_row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if (b1) _tile_dpbf16ps(3, 5, 7);
  }
}

template <int kHalves>
inline void store_tiles(float* c, int64_t c_row_bytes, bool two) {
  float* lower = c + kTileRows * (c_row_bytes / 4);
  _tile_stored(0, c, c_row_bytes);
  if (two) _tile_stored(1, c + kPanelColumns, c_row_bytes);
  if constexpr (kHalves == 2) {
    _tile_stored(2, lower, c_row_bytes);
    if (two) _tile_stored(3, lower + kPanelColumns, c_row_bytes);
  }
}

// Scores of up to 32 rows from row `row` of the tile on, and 32 keys.
template <int kHalves>
inline void score_granule(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
                          int64_t row, int column) {
  const std::byte* a = queries.scratch.queries + (tile.row + row) * geometry.query_bytes;
  const int64_t panel_bytes = geometry.head_tiles * kTileBytes;
  const std::byte* b = queries.scratch.keys + column / kPanelColumns * panel_bytes;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < geometry.head_tiles; ++i)
    multiply_tiles<kHalves>(a + i * 64, geometry.query_bytes, b + i * kTileBytes,
                            b + panel_bytes + i * kTileBytes);
  store_tiles<kHalves>(
      reinterpret_cast<float*>(queries.scratch.scores + row * kScoreRowBytes) + column,
      kScoreRowBytes, true);
}

// Adds weights times values to up to two panels of the sums of up to 32 rows.
template <int kHalves>
inline void sum_granule(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
                        int64_t row, int64_t column) {
  constexpr int64_t kPanelBytes = kBlockKeys / 2 * kPanelStepBytes;
  const int64_t c_row_bytes = geometry.columns * 4;
  const bool two = column + kPanelColumns < geometry.columns;
  float* c = queries.scratch.sums + (tile.row + row) * geometry.columns + column;
  float* lower = c + kTileRows * geometry.columns;
  _tile_loadd(0, c, c_row_bytes);
  if (two) _tile_loadd(1, c + kPanelColumns, c_row_bytes);
  if constexpr (kHalves == 2) {
    _tile_loadd(2, lower, c_row_bytes);
    if (two) _tile_loadd(3, lower + kPanelColumns, c_row_bytes);
  }
  const std::byte* a = queries.scratch.scores + row * kScoreRowBytes;
  const std::byte* b = queries.scratch.values + column / kPanelColumns * kPanelBytes;
  for (int key = tile.columns.first; key < tile.columns.last; key += kKeyGranule) {
    const std::byte* step = b + key / 2 * kPanelStepBytes;
    multiply_tiles<kHalves>(a + key * 2, kScoreRowBytes, step, two ? step + kPanelBytes : nullptr);
  }
  store_tiles<kHalves>(c, c_row_bytes, two);
}

// The B operands of a granule stay in the L1 cache while all rows of the tile meet them.
void score_rows(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile) {
  for (int column = tile.columns.first; column < tile.columns.last; column += kKeyGranule)
    for (int64_t row = 0; row < tile.rows; row += 2 * kTileRows) {
      if (tile.rows - row > kTileRows)
        score_granule<2>(queries, geometry, tile, row, column);
      else
        score_granule<1>(queries, geometry, tile, row, column);
    }
}

void sum_rows(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile) {
  for (int64_t column = 0; column < geometry.columns; column += 2 * kPanelColumns)
    for (int64_t row = 0; row < tile.rows; row += 2 * kTileRows) {
      if (tile.rows - row > kTileRows)
        sum_granule<2>(queries, geometry, tile, row, column);
      else
        sum_granule<1>(queries, geometry, tile, row, column);
    }
}

uint64_t add_keys(const QueryBlock& queries, const KeyBlock& keys) {
  const Geometry geometry{
      .query_bytes = padded_steps<PairsOp>(queries.head_dim) * kStepBytes,
      .head_tiles = padded_steps<PairsOp>(queries.head_dim) / 16,
      .columns = round_up(queries.head_dim, kPanelColumns),
  };
  pack_keys<PairsOp>(queries, keys);
  pack_values<PairsOp>(queries, keys);
  configure_tiles();
  const int64_t page_bytes = 2 * 64 * row_source_bytes<PairsOp>(queries.head_dim);
  // A step of the softmax takes some rows.
  const int64_t lines_a_step =
      round_up(kBlockKeys / 64 * page_bytes / 64 * kRowsWeighed / queries.rows + 1, 4);
  NextBlock next(keys, page_bytes);
  uint64_t scored = 0;
  for (int64_t row = 0; row < queries.rows; row += kTileQueryRows) {
    const int64_t rest = queries.rows - row;
    RowTile tile{.row = row, .rows = rest < kTileQueryRows ? rest : kTileQueryRows, .columns = {}};
    tile.columns = visible_columns(queries, keys, row, tile.rows);
    if (tile.columns.last <= tile.columns.first) continue;
    scored += static_cast<uint64_t>(tile.rows * (tile.columns.last - tile.columns.first));
    score_rows(queries, geometry, tile);
    Softmax softmax(queries, keys, row, tile.rows, tile.columns,
                    reinterpret_cast<float*>(queries.scratch.scores));
    while (!softmax.done()) {
      softmax.advance();
      next.fetch(lines_a_step);
    }
    sum_rows(queries, geometry, tile);
  }
  _tile_release();
  return scored;
}

}  // namespace

const AttentionKernel kPrefillBf16Amx = {begin_queries<PairsOp>, add_keys, finish_queries<PairsOp>};

}  // namespace kvasir::kernels

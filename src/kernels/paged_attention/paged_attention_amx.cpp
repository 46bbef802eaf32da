// bf16 pages where the CPU has matrix tiles: 16 rows x 32 elements of A times 32 x 16 of B in one
// instruction. Scores of a few query rows and keys become weights while they are in the L1 cache.
// While tiles multiply, floating-point instructions run at half their rate, so that running the
// softmax side by side with the products gains nothing.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 256;

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"
#include "kernels/paged_attention/paged_attention_tiles.inc"

void configure_tiles() {
  const TileConfig config;
  load_config(config);
}

struct Geometry {
  int64_t query_bytes;  // between packed queries
  int64_t head_tiles;   // of head_dim, 32 elements each
  int64_t columns;      // of sums
};

constexpr int64_t kGranuleScoreBytes = kTileQueryRows * kKeyGranule * 4;
constexpr int64_t kGranuleWeightBytes = kTileQueryRows * kKeyGranule * 2;
static_assert(2 * kGranuleScoreBytes + kBlockKeys / kKeyGranule * kGranuleWeightBytes <=
              kScoreScratchBytes);

// Some query rows and the columns of the key block that they meet. Scores are kept for two granules
// in turn, as [row][32 keys]; weights as [granule][row][32 keys].
struct RowTile {
  int64_t row;
  int rows;
  Columns columns;
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

inline float* granule_scores(const QueryBlock& queries, int column) {
  return reinterpret_cast<float*>(queries.scratch.scores +
                                  column / kKeyGranule % 2 * kGranuleScoreBytes);
}

inline std::byte* granule_weights(const QueryBlock& queries, int column) {
  return queries.scratch.scores + 2 * kGranuleScoreBytes +
         column / kKeyGranule * kGranuleWeightBytes;
}

// Scores of a tile's rows and the 32 keys from `column` on.
template <int kHalves>
void score_granule(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
                   int column) {
  const std::byte* a = queries.scratch.queries + tile.row * geometry.query_bytes;
  const int64_t panel_bytes = geometry.head_tiles * kTileBytes;
  const std::byte* b = queries.scratch.keys + column / kPanelColumns * panel_bytes;
  memory_is_read();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < geometry.head_tiles; ++i)
    multiply_tiles<kHalves>(a + i * 64, geometry.query_bytes, b + i * kTileBytes,
                            b + panel_bytes + i * kTileBytes);
  store_tiles<kHalves>(granule_scores(queries, column), kKeyGranule * 4, true);
}

// Adds weights times values to up to two panels of the sums of a tile's rows.
template <int kHalves>
void sum_granule(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
                 int64_t column) {
  constexpr int64_t kPanelBytes = kBlockKeys / 2 * kPanelStepBytes;
  const int64_t c_row_bytes = geometry.columns * 4;
  const bool two = column + kPanelColumns < geometry.columns;
  float* c = queries.scratch.sums + tile.row * geometry.columns + column;
  float* lower = c + kTileRows * geometry.columns;
  memory_is_read();
  _tile_loadd(0, c, c_row_bytes);
  if (two) _tile_loadd(1, c + kPanelColumns, c_row_bytes);
  if constexpr (kHalves == 2) {
    _tile_loadd(2, lower, c_row_bytes);
    if (two) _tile_loadd(3, lower + kPanelColumns, c_row_bytes);
  }
  const std::byte* b = queries.scratch.values + column / kPanelColumns * kPanelBytes;
  for (int key = tile.columns.first; key < tile.columns.last; key += kKeyGranule) {
    const std::byte* step = b + key / 2 * kPanelStepBytes;
    multiply_tiles<kHalves>(granule_weights(queries, key), 64, step,
                            two ? step + kPanelBytes : nullptr);
  }
  store_tiles<kHalves>(c, c_row_bytes, two);
}

void weigh_granule(const QueryBlock& queries, const KeyBlock& keys, const RowTile& tile,
                   int column) {
  float* scores = granule_scores(queries, column);
  if (tile.columns.masked(column, column + kKeyGranule))
    for (int i = 0; i < tile.rows; ++i)
      mask_row(queries, keys, tile.row + i, {.first = column, .last = column + kKeyGranule},
               scores + i * kKeyGranule - column);
  const GranuleRows granule{.scores = scores,
                            .score_row_bytes = kKeyGranule * 4,
                            .weights = granule_weights(queries, column),
                            .weight_row_bytes = kKeyGranule * 2,
                            .weight_granule_bytes = kGranuleWeightBytes,
                            .granules_before = (column - tile.columns.first) / kKeyGranule};
  for (int i = 0; i < tile.rows; i += kRowsWeighed) weigh_rows(queries, tile.row + i, granule, i);
}

template <int kHalves>
void add_to_tile(const QueryBlock& queries, const KeyBlock& keys, const Geometry& geometry,
                 const RowTile& tile, int64_t fetch_lines, NextBlock& next) {
  const Columns& columns = tile.columns;
  score_granule<kHalves>(queries, geometry, tile, columns.first);
  for (int column = columns.first; column < columns.last; column += kKeyGranule) {
    if (column + kKeyGranule < columns.last)
      score_granule<kHalves>(queries, geometry, tile, column + kKeyGranule);
    weigh_granule(queries, keys, tile, column);
    next.fetch(fetch_lines);
  }
  for (int64_t column = 0; column < geometry.columns; column += 2 * kPanelColumns)
    sum_granule<kHalves>(queries, geometry, tile, column);
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
  const int64_t fetch_lines =
      page_bytes / 64 * kKeyGranule / 64 * kTileQueryRows / queries.rows + 1;
  NextBlock next(keys, page_bytes);
  uint64_t scored = 0;
  for (int64_t row = 0; row < queries.rows; row += kTileQueryRows) {
    const int64_t rest = queries.rows - row;
    const int rows = static_cast<int>(rest < kTileQueryRows ? rest : kTileQueryRows);
    const RowTile tile{row, rows, visible_columns(queries, keys, row, rows)};
    if (tile.columns.last <= tile.columns.first) continue;
    scored += static_cast<uint64_t>(rows * (tile.columns.last - tile.columns.first));
    if (rows > kTileRows)
      add_to_tile<2>(queries, keys, geometry, tile, fetch_lines, next);
    else
      add_to_tile<1>(queries, keys, geometry, tile, fetch_lines, next);
  }
  _tile_release();
  return scored;
}

}  // namespace

const AttentionKernel kPrefillBf16Amx = {begin_queries<PairsOp>, add_keys, finish_queries<PairsOp>,
                                         kBlockKeys};

}  // namespace kvasir::kernels

// bf16 pages where the CPU has matrix tiles: 16 rows x 32 elements of A times 32 x 16 of B in one
// instruction. The tile unit works beside the vector units: while the softmax of one tile of query
// rows runs, the scores of the next tile and the weighted sums of the one before are computed.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"

constexpr int kTileRows = 16;
constexpr int64_t kTileBytes = 1024;  // 16 steps of a packed panel

// All eight tiles: 16 rows of 64 bytes.
void configure_tiles() {
  struct alignas(64) Config {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  const Config config;
  _tile_loadconfig(&config);
}

// Up to 32 query rows and the columns of the key block that they meet.
struct RowTile {
  int64_t row = 0;
  int64_t rows = 0;  // 0: nothing
  Columns columns;
  float* scores = nullptr;
};

struct Geometry {
  int64_t query_bytes;  // between packed queries
  int64_t head_tiles;   // of head_dim, 32 elements each
  int64_t columns;      // of sums
};

// The softmax of one tile, row by row beside the work of the tile unit.
class Softmax {
 public:
  Softmax(const QueryBlock& queries, const KeyBlock& keys, const Geometry& geometry,
          const RowTile& tile, int64_t pieces)
      : queries_(queries), keys_(keys), geometry_(geometry), tile_(tile), pieces_(pieces) {}

  // A fair share of the rows: to be called once for each of the pieces.
  void advance() {
    for (credit_ += tile_.rows; credit_ >= pieces_ && next_ < tile_.rows; credit_ -= pieces_)
      run_row();
  }
  void finish() {
    while (next_ < tile_.rows) run_row();
  }

 private:
  void run_row() {
    const AttentionScratch& scratch = queries_.scratch;
    const int64_t row = tile_.row + next_;
    float* scores = tile_.scores + next_ * (kScoreRowBytes / 4);
    if (tile_.columns.masked) mask_row(queries_, keys_, row, tile_.columns, scores);
    softmax_row(scores, tile_.columns.first, tile_.columns.last, queries_.scale_log2,
                scratch.maxima + row, scratch.denominators + row * kDenominatorLanes,
                geometry_.columns, scratch.sums + row * geometry_.columns);
    ++next_;
  }

  const QueryBlock& queries_;
  const KeyBlock& keys_;
  const Geometry& geometry_;
  const RowTile& tile_;
  const int64_t pieces_;
  int64_t credit_ = 0;
  int64_t next_ = 0;
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

template <int kHalves>
void score_rows(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
                Softmax& beside) {
  const std::byte* a = queries.scratch.queries + tile.row * geometry.query_bytes;
  const int64_t panel_bytes = geometry.head_tiles * kTileBytes;
  for (int column = tile.columns.first; column < tile.columns.last; column += kKeyGranule) {
    const std::byte* b = queries.scratch.keys + column / kPanelColumns * panel_bytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < geometry.head_tiles; ++i) {
      multiply_tiles<kHalves>(a + i * 64, geometry.query_bytes, b + i * kTileBytes,
                              b + panel_bytes + i * kTileBytes);
      if (i + 1 == geometry.head_tiles)
        store_tiles<kHalves>(tile.scores + column, kScoreRowBytes, true);
      beside.advance();
    }
  }
}

template <int kHalves>
void sum_rows(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
              Softmax& beside) {
  constexpr int64_t kPanelBytes = kBlockKeys / 2 * kPanelStepBytes;
  const int64_t c_row_bytes = geometry.columns * 4;
  for (int64_t column = 0; column < geometry.columns; column += 2 * kPanelColumns) {
    const bool two = column + kPanelColumns < geometry.columns;
    float* c = queries.scratch.sums + tile.row * geometry.columns + column;
    float* lower = c + kTileRows * geometry.columns;
    _tile_loadd(0, c, c_row_bytes);
    if (two) _tile_loadd(1, c + kPanelColumns, c_row_bytes);
    if constexpr (kHalves == 2) {
      _tile_loadd(2, lower, c_row_bytes);
      if (two) _tile_loadd(3, lower + kPanelColumns, c_row_bytes);
    }
    const std::byte* b = queries.scratch.values + column / kPanelColumns * kPanelBytes;
    const std::byte* a = reinterpret_cast<const std::byte*>(tile.scores);
    for (int key = tile.columns.first; key < tile.columns.last; key += kKeyGranule) {
      const std::byte* step = b + key / 2 * kPanelStepBytes;
      multiply_tiles<kHalves>(a + key * 2, kScoreRowBytes, step,
                              two ? step + kPanelBytes : nullptr);
      if (key + kKeyGranule == tile.columns.last) store_tiles<kHalves>(c, c_row_bytes, two);
      beside.advance();
    }
  }
}

uint64_t add_keys(const QueryBlock& queries, const KeyBlock& keys) {
  const Geometry geometry{
      .query_bytes = padded_steps<PairsOp>(queries.head_dim) * kStepBytes,
      .head_tiles = padded_steps<PairsOp>(queries.head_dim) / 16,
      .columns = round_up(queries.head_dim, kPanelColumns),
  };
  const int64_t sum_pieces = (geometry.columns + 2 * kPanelColumns - 1) / (2 * kPanelColumns);
  pack_keys<PairsOp>(queries, keys);
  pack_values<PairsOp>(queries, keys);
  configure_tiles();
  uint64_t scored = 0;
  int buffer = 0;
  RowTile before, current;
  for (int64_t row = 0; current.rows || before.rows || row < queries.rows;) {
    RowTile next;
    while (next.rows == 0 && row < queries.rows) {
      const int64_t rows =
          queries.rows - row < kTileQueryRows ? queries.rows - row : kTileQueryRows;
      const Columns columns = visible_columns(queries, keys, row, rows);
      if (columns.last > columns.first) {
        next = {.row = row,
                .rows = rows,
                .columns = columns,
                .scores = reinterpret_cast<float*>(queries.scratch.scores +
                                                   buffer * (kTileQueryRows * kScoreRowBytes))};
        buffer = (buffer + 1) % 3;
        scored += static_cast<uint64_t>(rows * (columns.last - columns.first));
      }
      row += rows;
    }
    const int64_t pieces =
        ((next.rows ? next.columns.last - next.columns.first : 0) * geometry.head_tiles +
         (before.rows ? before.columns.last - before.columns.first : 0) * sum_pieces) /
        kKeyGranule;
    Softmax softmax(queries, keys, geometry, current, pieces);
    if (before.rows > kTileRows)
      sum_rows<2>(queries, geometry, before, softmax);
    else if (before.rows > 0)
      sum_rows<1>(queries, geometry, before, softmax);
    if (next.rows > kTileRows)
      score_rows<2>(queries, geometry, next, softmax);
    else if (next.rows > 0)
      score_rows<1>(queries, geometry, next, softmax);
    softmax.finish();
    before = current;
    current = next;
  }
  _tile_release();
  return scored;
}

}  // namespace

const AttentionKernel kAttentionBf16Amx = {begin_queries<PairsOp>, add_keys,
                                           finish_queries<PairsOp>};

}  // namespace kvasir::kernels

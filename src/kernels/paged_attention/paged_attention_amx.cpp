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
#include "kernels/paged_attention/paged_attention_values.inc"

constexpr int kTileRows = 16;
constexpr int64_t kTileBytes = 1024;  // 16 steps of a packed panel

// All eight tiles: 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

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
  const int64_t lines_a_row = kBlockKeys / 64 * page_bytes / 64 / queries.rows + 1;
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
      next.fetch(lines_a_row);
    }
    sum_rows(queries, geometry, tile);
  }
  _tile_release();
  return scored;
}

// Decode: the tile unit multiplies 16 keys, read where they lie, with a slot of up to 16 query
// heads. Scores and weights are [key][slot width]: a vector holds those of one, two or four keys.
constexpr int kSlotRows = 16;

int slot_width(int64_t rows) { return rows <= 4 ? 4 : rows <= 8 ? 8 : 16; }

// Tiles 0 and 2: sums of 16 keys; 4 and 5: keys; 6: the query heads of a slot.
void configure_slot_tiles(int width) {
  TileConfig config;
  for (int tile : {0, 2, 6}) config.row_bytes[tile] = static_cast<uint16_t>(width * 4);
  _tile_loadconfig(&config);
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

void score_slot(const QueryBlock& queries, const KeyBlock& keys, const Columns& columns,
                int64_t row, int width, NextBlock& next) {
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  const int64_t query_bytes = padded_steps<PairsOp>(queries.head_dim) * kStepBytes;
  const std::byte* b = queries.scratch.queries + row * query_bytes;
  for (int key = columns.first; key < columns.last; key += 2 * kTileRows) {
    const std::byte* a = key_row(keys, key, row_bytes);
    _tile_zero(0);
    _tile_zero(2);
    for (int64_t i = 0; i < row_bytes; i += 64) {
      _tile_loadd(6, b + i, query_bytes);
      _tile_loadd(4, a + i, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, a + kTileRows * row_bytes + i, row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      next.fetch(kTileRows);  // a quarter of the lines that these keys and their values take
    }
    float* scores = reinterpret_cast<float*>(queries.scratch.scores) + key * width;
    _tile_stored(0, scores, width * 4);
    _tile_stored(2, scores + kTileRows * width, width * 4);
  }
}

// The largest of the lanes that belong to the same query head, in all of them.
inline Vec largest_across_keys(Vec x, int width) {
  if (width <= 8) x = max(x, _mm512_shuffle_f32x4(x, x, 0x4e));
  if (width <= 4) x = max(x, _mm512_shuffle_f32x4(x, x, 0xb1));
  return x;
}

// Turns the scores of the keys [first, last) into weights; those of other keys in the same vectors
// become 0. Maxima of a slot are kept once for each lane, in the place of its first rows'
// denominators: lanes of the second row; the denominators' partial sums are the lanes of the first.
void weigh_slot(const QueryBlock& queries, int64_t row, int width, int first, int last) {
  float* scores = reinterpret_cast<float*>(queries.scratch.scores);
  float* denominators = queries.scratch.denominators + row * kDenominatorLanes;
  float* maxima = queries.scratch.maxima + row;
  const int begin = first * width / kWidth * kWidth;
  const int end = (last * width + kWidth - 1) / kWidth * kWidth;
  hide_outside(scores + begin, first * width - begin, kWidth);
  hide_outside(scores + end - kWidth, 0, last * width - (end - kWidth));
  const Vec scale = set1(queries.scale_log2), lowest = set1(-__builtin_inff());
  Vec top = lowest, other = lowest;
  for (int i = begin; i < end; i += 2 * kWidth) {
    top = max(load(scores + i), top);
    if (i + kWidth < end) other = max(load(scores + i + kWidth), other);
  }
  const Vec before = load(maxima);
  const Vec now = max(before, mul(largest_across_keys(max(top, other), width), scale));
  store(maxima, now);
  Vec denominator = load(denominators);
  const __mmask16 raised = _mm512_cmp_ps_mask(before, now, _CMP_LT_OQ);
  if (raised) {
    alignas(64) float factors[kSlotRows];
    store(factors, exp2_rough(sub(before, now)));
    denominator = mul(denominator, load(factors));
    const int64_t columns = round_up(queries.head_dim, kPanelColumns);
    for (unsigned rest = raised & ((1u << width) - 1); rest != 0; rest &= rest - 1) {
      const int r = __builtin_ctz(rest);
      float* sums = queries.scratch.sums + (row + r) * columns;
      for (int64_t column = 0; column < columns; column += kWidth)
        store(sums + column, mul(load(sums + column), set1(factors[r])));
    }
  }
  const Vec shift = sub(zero(), now);
  for (int i = begin; i < end; i += kWidth) {
    const Vec weight = exp2_rough(fma(load(scores + i), scale, shift));
    denominator = add(denominator, weight);
    store(scores + i, weight);
  }
  store(denominators, denominator);
}

uint64_t decode_keys(const QueryBlock& queries, const KeyBlock& keys) {
  const Columns columns = visible_columns(queries, keys, 0, queries.rows);
  if (columns.last <= columns.first) return 0;
  // One position sees one range of keys; it is not empty, so that maxima are finite.
  const int64_t lowest = queries.window > 0
                             ? queries.first_position + 1 - queries.window - keys.first
                             : int64_t{keys.begin};
  const int first = lowest > columns.first ? static_cast<int>(lowest) : columns.first;
  const int64_t behind = queries.first_position + 1 - keys.first;
  const int last = behind < keys.end ? static_cast<int>(behind) : keys.end;
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  const int64_t chunks = (queries.head_dim + kColumnsAtOnce - 1) / kColumnsAtOnce;
  const int width = slot_width(queries.rows);
  NextBlock next(keys, 2 * 64 * row_bytes);
  configure_slot_tiles(width);
  for (int64_t row = 0; row < queries.rows; row += kSlotRows) {
    score_slot(queries, keys, columns, row, width, next);
    weigh_slot(queries, row, width, first, last);
    const int64_t end = queries.rows - row < kSlotRows ? queries.rows : row + kSlotRows;
    add_all_values<WidenOp>(queries, keys, {.first = first, .last = last},
                            {.first = reinterpret_cast<float*>(queries.scratch.scores) - row,
                             .row_stride = 1,
                             .key_stride = width,
                             .lines_a_key = (row_bytes * 3 / 2 / 64 + chunks - 1) / chunks},
                            row, end, next);
  }
  _tile_release();
  return static_cast<uint64_t>(queries.rows * (columns.last - columns.first));
}

void finish_decode(const QueryBlock& queries, const AttentionOutput*) {
  const int width = slot_width(queries.rows);
  for (int64_t row = 0; row < queries.rows; row += kSlotRows) {
    float* denominators = queries.scratch.denominators + row * kDenominatorLanes;
    alignas(64) float lanes[kSlotRows];
    store(lanes, load(denominators));
    for (int r = 0; r < kSlotRows; ++r) {
      float all = 0;
      for (int lane = r; lane < kSlotRows; lane += width) all += lanes[lane];
      denominators[r * kDenominatorLanes] = all;
    }
  }
}

}  // namespace

const AttentionKernel kDecodeBf16Amx = {begin_decode, decode_keys, finish_decode};
const AttentionKernel kPrefillBf16Amx = {begin_queries<PairsOp>, add_keys, finish_queries<PairsOp>};

}  // namespace kvasir::kernels

// bf16 pages where the CPU has matrix tiles: 16 rows x 32 elements of A times 32 x 16 of B in one
// instruction.
//
// Everything is turned round, with the query rows in the lanes: scores are [key][row], keys times
// queries, so that keys are multiplied where they lie; sums are [column][row], values times
// weights. Two keys' weights side by side are what a tile wants as B, and a row's maximum and
// denominator are a lane. What has to be brought into another order for each block of keys is the
// values alone; queries and sums are turned once.
//
// Scores of a few query rows and keys become weights while they are in the L1 cache. While tiles
// multiply, floating-point instructions run at half their rate, so that running the softmax side by
// side with the products gains nothing.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 256;

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"
#include "kernels/paged_attention/paged_attention_tiles.inc"

constexpr int kPanelRows = 16;         // query rows of a tile's lanes
constexpr int64_t kTileElements = 32;  // of head_dim in the rows of A and B
constexpr int64_t kPanelScoreBytes = kKeyGranule * kPanelRows * 4;
constexpr int64_t kPanelWeightBytes = kKeyGranule * kPanelRows * 2;
constexpr int kWeighSteps = 4;  // of the softmax of a panel and a granule, for fetching
constexpr int kTilePanels = kTileQueryRows / kPanelRows;
constexpr int64_t kTileScoreBytes = kTilePanels * kPanelScoreBytes;
constexpr int64_t kTileWeightBytes = kBlockKeys / kKeyGranule * kTilePanels * kPanelWeightBytes;
// Tiles of rows that meet a granule of keys one after the other, so that it comes from the L2 cache
// once for all of them.
constexpr int kTilesTogether = 2;
static_assert(kTilesTogether * (kTileScoreBytes + kTileWeightBytes) <= kScoreScratchBytes);
static_assert(kTilePanels * (2 * kPanelScoreBytes + kBlockKeys / kKeyGranule * kPanelWeightBytes) <=
              kScoreScratchBytes);

void configure_tiles() {
  const TileConfig config;
  load_config(config);
}

struct Geometry {
  int64_t head_tiles;         // of head_dim, kTileElements each
  int64_t columns;            // of sums
  int64_t key_row_bytes;      // between keys
  int64_t query_panel_bytes;  // between panels of packed queries
  int64_t sum_panel_bytes;    // between panels of sums
  int64_t granule_bytes;      // between granules of packed values
};

Geometry geometry_of(const QueryBlock& queries) {
  Geometry g{};
  g.head_tiles = (queries.head_dim + kTileElements - 1) / kTileElements;
  g.columns = round_up(queries.head_dim, kPanelColumns);
  g.key_row_bytes = g.head_tiles * kTileElements * 2;
  g.query_panel_bytes = g.head_tiles * kTileBytes;
  g.sum_panel_bytes = g.columns * kPanelRows * 4;
  g.granule_bytes = g.head_tiles * 2 * kTileBytes;
  return g;
}

// Queries become [panel of 16 rows][head_tiles][16 steps of head_dim][16 rows].
void begin_turned(const QueryBlock& queries) {
  const AttentionScratch& scratch = queries.scratch;
  const Geometry geometry = geometry_of(queries);
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  for (int64_t row = 0; row < queries.rows; row += kPanelRows) {
    std::byte* packed = scratch.queries + row / kPanelRows * geometry.query_panel_bytes;
    const std::byte* source[kPanelRows];
    for (int i = 0; i < kPanelRows; ++i)
      source[i] = row + i < queries.rows
                      ? queries.q + (row + i) / queries.group * queries.q_row_bytes +
                            (row + i) % queries.group * row_bytes
                      : nullptr;
    for (int64_t tile = 0; tile < geometry.head_tiles; ++tile, packed += kTileBytes) {
      Bits rows[kPanelRows];
      for (int i = 0; i < kPanelRows; ++i)
        rows[i] =
            source[i] ? load_row_steps<PairsOp>(source[i], tile * 64, row_bytes) : zero_bits();
      transpose(rows);
#pragma GCC unroll 16
      for (int i = 0; i < kPanelRows; ++i) store_bits(packed + i * kPanelStepBytes, rows[i]);
    }
    store(scratch.maxima + row, set1(-__builtin_inff()));
    store(scratch.denominators + row, zero());
    float* sums = scratch.sums + row * geometry.columns;
    for (int64_t i = 0; i < geometry.columns; ++i) store(sums + i * kPanelRows, zero());
  }
}

// The values of a granule and kTileElements columns from `row` on, turned: [column][key pair], a
// pair being keys 16 apart, as weights are paired.
inline void turn_values(const std::byte* row, int64_t row_bytes, std::byte* turned) {
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // columns 8 c to 8 c + 7
    Bits low[4], high[4];        // pairs of the first and of the second four columns
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Bits even = load_quarters(row + i * row_bytes + c * 16, row_bytes);
      const Bits odd = load_quarters(row + (i + 16) * row_bytes + c * 16, row_bytes);
      low[i] = _mm512_unpacklo_epi16(even, odd);
      high[i] = _mm512_unpackhi_epi16(even, odd);
    }
    transpose_quarters(low);
    transpose_quarters(high);
    std::byte* out = turned + c * 8 * 64;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      store_bits(out + i * 64, low[i]);
      store_bits(out + (i + 4) * 64, high[i]);
    }
  }
}

// Copies up to kKeyGranule rows of up to kTileElements, zeros in place of what is not there.
void copy_padded(const std::byte* row, int64_t row_bytes, int64_t bytes, int rows,
                 std::byte* padded) {
  const __mmask32 mask =
      bytes >= 64 ? ~__mmask32{0} : static_cast<__mmask32>((1u << (bytes / 2)) - 1);
  for (int i = 0; i < kKeyGranule; ++i, row += row_bytes, padded += 64)
    store_bits(padded, i < rows ? _mm512_maskz_loadu_epi16(mask, row) : zero_bits());
}

// Values become [granule][column][key pair].
void pack_turned(const QueryBlock& queries, const KeyBlock& keys, const Geometry& geometry) {
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  for (int key = keys.begin / kKeyGranule * kKeyGranule; key < keys.end; key += kKeyGranule) {
    const std::byte* row = key_row(keys, key, row_bytes) + 64 * row_bytes;
    std::byte* turned = queries.scratch.values + key / kKeyGranule * geometry.granule_bytes;
    const bool whole = key + kKeyGranule <= keys.end;
    for (int64_t i = 0; i < row_bytes; i += 64, turned += 2 * kTileBytes) {
      if (whole && i + 64 <= row_bytes) {
        turn_values(row + i, row_bytes, turned);
        continue;
      }
      alignas(64) std::byte padded[kKeyGranule * 64];
      copy_padded(row + i, row_bytes, row_bytes - i, keys.end - key, padded);
      turn_values(padded, 64, turned);
    }
  }
}

// Keys whose rows are not whole tiles, with zeros behind them.
void pad_keys(const QueryBlock& queries, const KeyBlock& keys, const Geometry& geometry) {
  const int64_t row_bytes = row_source_bytes<PairsOp>(queries.head_dim);
  for (int key = keys.begin / kKeyGranule * kKeyGranule; key < keys.end; ++key)
    for (int64_t i = 0; i < geometry.key_row_bytes; i += 64)
      store_bits(queries.scratch.keys + key * geometry.key_row_bytes + i,
                 load_row_steps<PairsOp>(key_row(keys, key, row_bytes), i, row_bytes));
}

// Some query rows and the columns of the key block that they meet.
struct RowTile {
  int64_t row;
  int rows;
  Columns columns;
  std::byte* weights;  // [granule][panel of rows][key pair][row]
  // Of each row: the places that it sees; filled where they differ from row to row.
  alignas(64) int32_t first[kTileQueryRows], last[kTileQueryRows];
};

// Tiles 0 to 3 hold [16 rows of A, another 16] x [panel 0, panel 1], 4 and 5 rows of A, 6 and 7
// panels of B. With kPanels = 1 there is panel 0 alone.
template <int kPanels>
inline void multiply_tiles(const std::byte* a, const std::byte* lower_a, int64_t a_row_bytes,
                           const std::byte* b, int64_t panel_bytes) {
  _tile_loadd(6, b, 64);
  _tile_loadd(4, a, a_row_bytes);
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (kPanels == 2) {
    _tile_loadd(7, b + panel_bytes, 64);
    _tile_dpbf16ps(1, 4, 7);
  }
  if (!lower_a) return;
  _tile_loadd(5, lower_a, a_row_bytes);
  _tile_dpbf16ps(2, 5, 6);
  if constexpr (kPanels == 2) _tile_dpbf16ps(3, 5, 7);
}

template <int kPanels>
inline void store_tiles(std::byte* c, int64_t panel_bytes, bool has_lower) {
  _tile_stored(0, c, 64);
  if constexpr (kPanels == 2) _tile_stored(1, c + panel_bytes, 64);
  if (!has_lower) return;
  _tile_stored(2, c + kTileBytes, 64);
  if constexpr (kPanels == 2) _tile_stored(3, c + panel_bytes + kTileBytes, 64);
}

inline std::byte* granule_weights(const RowTile& tile, int column) {
  return tile.weights + column / kKeyGranule * (kTilePanels * kPanelWeightBytes);
}

// A granule of keys and a tile of rows: the scores, [panel of rows][key][row].
struct Unit {
  const RowTile* tile = nullptr;
  int column = 0;
  std::byte* scores = nullptr;
};

template <int kPanels>
void score_granule(const QueryBlock& queries, const KeyBlock& keys, const Geometry& geometry,
                   const Unit& unit, NextBlock& next) {
  const bool padded = queries.head_dim % kTileElements != 0;
  const std::byte* a = padded ? queries.scratch.keys + unit.column * geometry.key_row_bytes
                              : key_row(keys, unit.column, geometry.key_row_bytes);
  const std::byte* lower = a + kTileRows * geometry.key_row_bytes;
  const std::byte* b =
      queries.scratch.queries + unit.tile->row / kPanelRows * geometry.query_panel_bytes;
  memory_is_read();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < geometry.head_tiles; ++i) {
    multiply_tiles<kPanels>(a + i * 64, lower + i * 64, geometry.key_row_bytes, b + i * kTileBytes,
                            geometry.query_panel_bytes);
    next.step();
  }
  store_tiles<kPanels>(unit.scores, kPanelScoreBytes, true);
}

// Adds values times weights to up to 32 columns of the sums of a tile's rows.
template <int kPanels>
void sum_granules(const QueryBlock& queries, const Geometry& geometry, const RowTile& tile,
                  int64_t column, NextBlock& next) {
  const bool has_lower = column + kPanelColumns < geometry.columns;
  std::byte* c = reinterpret_cast<std::byte*>(queries.scratch.sums + tile.row * geometry.columns) +
                 column * kPanelRows * 4;
  memory_is_read();
  _tile_loadd(0, c, 64);
  if constexpr (kPanels == 2) _tile_loadd(1, c + geometry.sum_panel_bytes, 64);
  if (has_lower) {
    _tile_loadd(2, c + kTileBytes, 64);
    if constexpr (kPanels == 2) _tile_loadd(3, c + geometry.sum_panel_bytes + kTileBytes, 64);
  }
  const std::byte* values = queries.scratch.values + column * 64;
  for (int key = tile.columns.first; key < tile.columns.last; key += kKeyGranule) {
    const std::byte* a = values + key / kKeyGranule * geometry.granule_bytes;
    multiply_tiles<kPanels>(a, has_lower ? a + kTileBytes : nullptr, 64, granule_weights(tile, key),
                            kPanelWeightBytes);
    next.step();
  }
  store_tiles<kPanels>(c, geometry.sum_panel_bytes, has_lower);
}

// Puts -inf in place of the scores that rows of a panel do not see.
void mask_panel(const RowTile& tile, int panel, int column, float* scores) {
  const Vec none = set1(-__builtin_inff());
  if (!tile.columns.differs) {
    for (int i = 0; i < kKeyGranule; ++i)
      if (column + i < tile.columns.clear_first || column + i >= tile.columns.clear_last)
        store(scores + i * kPanelRows, none);
    return;
  }
  const Bits first = _mm512_load_si512(tile.first + panel * kPanelRows);
  const Bits last = _mm512_load_si512(tile.last + panel * kPanelRows);
  for (int i = 0; i < kKeyGranule; ++i) {
    const Bits place = _mm512_set1_epi32(column + i);
    const __mmask16 hidden =
        _mm512_cmpgt_epi32_mask(first, place) | _mm512_cmple_epi32_mask(last, place);
    _mm512_mask_storeu_ps(scores + i * kPanelRows, hidden, none);
  }
}

// Weights of a panel's scores, as pairs of the keys i and i + 16; returns their sums.
inline Vec weigh_scores(const float* scores, Vec scale, Vec maximum, std::byte* weights,
                        NextBlock& next) {
  Vec totals[2] = {zero(), zero()};
#pragma GCC unroll 4
  for (int i = 0; i < kPanelRows; ++i) {
    const float* low = scores + i * kPanelRows;
    const RowWeights found = weights_of(low, low + kPanelRows * kPanelRows, scale, maximum);
    store_bits(weights + i * kPanelStepBytes, found.pairs);
    totals[i % 2] = add(totals[i % 2], found.total);
    if (i % (kPanelRows / kWeighSteps) == 0) next.step();
  }
  return add(totals[0], totals[1]);
}

// Some rows of a panel meet their first key, or their weights have grown too large: raises their
// maxima, by whole powers of two where they had one, shrinks what they have summed and weighed so
// far, and weighs the granule again.
__attribute__((noinline)) Vec weigh_raised(const QueryBlock& queries, const Geometry& geometry,
                                           const Unit& unit, int panel, Vec total,
                                           NextBlock& next) {
  const RowTile& tile = *unit.tile;
  const int64_t row = tile.row + panel * kPanelRows;
  const float* scores = reinterpret_cast<float*>(unit.scores + panel * kPanelScoreBytes);
  const Vec none = set1(-__builtin_inff());
  Vec top = none;
  for (int i = 0; i < kKeyGranule; ++i) top = max(load(scores + i * kPanelRows), top);
  top = mul(top, set1(queries.scale_log2));
  Vec maximum = load(queries.scratch.maxima + row);
  const __mmask16 large = too_large(total);
  const __mmask16 first = large & _mm512_cmp_ps_mask(maximum, none, _CMP_EQ_OQ);
  const __mmask16 rises =
      large & static_cast<__mmask16>(~first) & _mm512_cmp_ps_mask(top, maximum, _CMP_GT_OQ);
  if (rises != 0) {
    const Vec rise = _mm512_maskz_roundscale_ps(rises, sub(top, maximum),
                                                _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    maximum = add(maximum, rise);
    const Vec factor = _mm512_scalef_ps(set1(1), sub(zero(), rise));
    float* denominators = queries.scratch.denominators + row;
    store(denominators, mul(load(denominators), factor));
    float* sums = queries.scratch.sums + row * geometry.columns;
    for (int64_t i = 0; i < geometry.columns; ++i)
      store(sums + i * kPanelRows, mul(load(sums + i * kPanelRows), factor));
    for (int before = tile.columns.first; before < unit.column; before += kKeyGranule) {
      std::byte* weights = granule_weights(tile, before) + panel * kPanelWeightBytes;
      for (int64_t i = 0; i < kPanelWeightBytes; i += kPanelStepBytes)
        store_bits(weights + i, scale_pairs(load_bits(weights + i), factor));
    }
  }
  maximum = _mm512_mask_mov_ps(maximum, first, top);
  store(queries.scratch.maxima + row, maximum);
  // Against -inf everything would be NaN.
  const Vec finite =
      _mm512_mask_mov_ps(maximum, _mm512_cmp_ps_mask(maximum, none, _CMP_EQ_OQ), zero());
  return weigh_scores(scores, set1(queries.scale_log2), finite,
                      granule_weights(tile, unit.column) + panel * kPanelWeightBytes, next);
}

void weigh_granule(const QueryBlock& queries, const Geometry& geometry, const Unit& unit,
                   NextBlock& next) {
  const RowTile& tile = *unit.tile;
  const bool masked = tile.columns.masked(unit.column, unit.column + kKeyGranule);
  const uint64_t hidden = tile.columns.hidden_bits(unit.column, kKeyGranule);
  for (int panel = 0; panel * kPanelRows < tile.rows; ++panel) {
    float* scores = reinterpret_cast<float*>(unit.scores + panel * kPanelScoreBytes);
    if (masked) mask_panel(tile, panel, unit.column, scores);
    for (uint64_t bits = hidden; bits != 0; bits &= bits - 1)
      store(scores + __builtin_ctzll(bits) * kPanelRows, set1(-__builtin_inff()));
    const int64_t row = tile.row + panel * kPanelRows;
    Vec total = weigh_scores(scores, set1(queries.scale_log2), load(queries.scratch.maxima + row),
                             granule_weights(tile, unit.column) + panel * kPanelWeightBytes, next);
    if (too_large(total) != 0) [[unlikely]]
      total = weigh_raised(queries, geometry, unit, panel, total, next);
    float* denominators = queries.scratch.denominators + row;
    store(denominators, add(load(denominators), total));
  }
}

// False where the rows see nothing of the block.
bool set_tile(const QueryBlock& queries, const KeyBlock& keys, int64_t row, RowTile& tile) {
  const int64_t rest = queries.rows - row;
  tile.row = row;
  tile.rows = static_cast<int>(rest < kTileQueryRows ? rest : kTileQueryRows);
  tile.columns = visible_columns(queries, keys, row, tile.rows);
  if (tile.columns.last <= tile.columns.first) return false;
  if (!tile.columns.differs) return true;
  int64_t query = row / queries.group, head = row % queries.group;
  const TilePlaces& places = keys.tiles[row / queries.tile_rows];
  Places seen{};
  for (int i = 0; i < kTileQueryRows; ++i) {
    if (i < tile.rows && (i == 0 || head == 0))
      seen = visible_places(keys, places, queries.first_position + query);
    tile.first[i] = static_cast<int32_t>(seen.first);
    tile.last[i] = static_cast<int32_t>(seen.last);
    if (++head < queries.group) continue;
    head = 0;
    ++query;
  }
  return true;
}

// Adds the block to the sums of some tiles. A granule of scores is weighed when the next is on its
// way.
void add_to_tiles(const QueryBlock& queries, const KeyBlock& keys, const Geometry& geometry,
                  const RowTile* tiles, int count, NextBlock& next) {
  int first = tiles[0].columns.first, last = tiles[0].columns.last;
  for (int i = 1; i < count; ++i) {
    if (tiles[i].columns.first < first) first = tiles[i].columns.first;
    if (tiles[i].columns.last > last) last = tiles[i].columns.last;
  }
  Unit unit, before;
  bool odd = false;
  for (int column = first; column < last; column += kKeyGranule)
    for (int i = 0; i < count; ++i) {
      if (column < tiles[i].columns.first || column >= tiles[i].columns.last) continue;
      unit = {tiles + i, column, queries.scratch.scores + odd * kTileScoreBytes};
      odd = !odd;
      if (tiles[i].rows > kPanelRows)
        score_granule<2>(queries, keys, geometry, unit, next);
      else
        score_granule<1>(queries, keys, geometry, unit, next);
      if (before.tile) weigh_granule(queries, geometry, before, next);
      before = unit;
    }
  weigh_granule(queries, geometry, before, next);
  for (int64_t column = 0; column < geometry.columns; column += 2 * kPanelColumns)
    for (int i = 0; i < count; ++i) {
      if (tiles[i].rows > kPanelRows)
        sum_granules<2>(queries, geometry, tiles[i], column, next);
      else
        sum_granules<1>(queries, geometry, tiles[i], column, next);
    }
}

// How many granules of keys tiles of rows meet, about.
int64_t units_of(const QueryBlock& queries, const KeyBlock& keys) {
  int64_t places = 0;
  for (int64_t row = 0; row < queries.rows; row += queries.tile_rows) {
    const TilePlaces& tile = keys.tiles[row / queries.tile_rows];
    const int64_t rest = queries.rows - row;
    places += (tile.last - tile.first) * (rest < queries.tile_rows ? rest : queries.tile_rows);
  }
  return places / (kTileQueryRows * kKeyGranule) + 1;
}

uint64_t add_turned(const QueryBlock& queries, const KeyBlock& keys) {
  const Geometry geometry = geometry_of(queries);
  if (queries.head_dim % kTileElements != 0) pad_keys(queries, keys, geometry);
  pack_turned(queries, keys, geometry);
  configure_tiles();
  // The next block is fetched evenly over the steps of both products and of the softmax: while many
  // lines are on their way, those that the products need wait.
  NextBlock next(keys,
                 units_of(queries, keys) * (2 * geometry.head_tiles + kTilePanels * kWeighSteps));
  RowTile tiles[kTilesTogether];
  for (int i = 0; i < kTilesTogether; ++i)
    tiles[i].weights =
        queries.scratch.scores + kTilesTogether * kTileScoreBytes + i * kTileWeightBytes;
  uint64_t scored = 0;
  int count = 0;
  int64_t row = next_seeing_row(queries, keys, 0);
  while (row < queries.rows) {
    RowTile& tile = tiles[count];
    if (set_tile(queries, keys, row, tile)) {
      scored += static_cast<uint64_t>(tile.rows * (tile.columns.last - tile.columns.first));
      ++count;
    }
    row = next_seeing_row(queries, keys, row + kTileQueryRows);
    if (count == 0 || (count < kTilesTogether && row < queries.rows)) continue;
    add_to_tiles(queries, keys, geometry, tiles, count, next);
    count = 0;
  }
  next.finish();
  _tile_release();
  return scored;
}

// Writes 16 columns of a panel's rows.
void store_panel(const QueryBlock& queries, const AttentionOutput& output, int64_t row,
                 int64_t column, Bits (&rows)[kPanelRows]) {
  const int64_t columns = queries.head_dim - column;
  for (int i = 0; i < kPanelRows && row + i < queries.rows; ++i) {
    const int64_t query = (row + i) / queries.group, head = (row + i) % queries.group;
    std::byte* out = output.out + query * output.out_row_bytes +
                     (head * queries.head_dim + column) * PairsOp::kOutBytes;
    if (columns >= kPanelColumns) {
      PairsOp::store_out(out, as_floats(rows[i]));
      continue;
    }
    alignas(64) std::byte rest[kPanelColumns * PairsOp::kOutBytes];
    PairsOp::store_out(rest, as_floats(rows[i]));
    __builtin_memcpy(out, rest, columns * PairsOp::kOutBytes);
  }
}

void finish_turned(const QueryBlock& queries, const AttentionOutput* output) {
  constexpr float kLn2 = 0.69314718055994531f;
  const AttentionScratch& scratch = queries.scratch;
  const int64_t columns = round_up(queries.head_dim, kPanelColumns);
  for (int64_t row = 0; row < queries.rows; row += kPanelRows) {
    const Vec denominators =
        mul(load(scratch.denominators + row), set1(PairsOp::kDenominatorScale));
    store(scratch.denominators + row, denominators);
    const __mmask16 some = _mm512_cmp_ps_mask(denominators, zero(), _CMP_GT_OQ);
    const Vec inverse = _mm512_maskz_div_ps(some, set1(1), denominators);
    const float* sums = scratch.sums + row * columns;
    for (int64_t column = 0; column < queries.head_dim; column += kPanelColumns) {
      Bits rows[kPanelRows];
      // + 0 makes -0 (a sum that a masked key has passed never is) one thing with 0.
#pragma GCC unroll 16
      for (int i = 0; i < kPanelRows; ++i)
        rows[i] = _mm512_castps_si512(fma(load(sums + (column + i) * kPanelRows), inverse, zero()));
      transpose(rows);
      store_panel(queries, *output, row, column, rows);
    }
    if (!output->lse) continue;
    for (int64_t i = row; i < row + kPanelRows && i < queries.rows; ++i)
      output->lse[i / queries.group * output->lse_row_stride + i % queries.group] =
          (scratch.maxima[i] + __builtin_log2f(scratch.denominators[i])) * kLn2;
  }
}

}  // namespace

const AttentionKernel kPrefillBf16Amx = {begin_turned, add_turned, finish_turned, kBlockKeys};

}  // namespace kvasir::kernels

// Decode on bf16 pages where the CPU has matrix tiles. Memory is the bound, so keys and values go
// from their pages into tiles and nowhere else: one instruction asks for 16 lines of memory at
// once, past the L2 cache, without prefetches, and the tiles of a page are read in its order.
//
// Keys are rows of A: 16 keys x 32 elements times [32 elements][heads] give scores as [key][head],
// which are turned round for the softmax. Values are rows of B as they lie: B wants pairs of keys
// side by side, and what it finds there are pairs of columns of one key. So each query head has two
// rows of A with its weights, in one with zeros for the odd columns and in the other with zeros for
// the even ones, and its sums come in two rows.
//
// What is stored between the loads is kept small, as loads wait for stores to the same place of
// another 4 KiB: hence tiles that are no larger than up to 4 query heads need.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 64;

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"
#include "kernels/paged_attention/paged_attention_tiles.inc"

constexpr int kLineElements = 32;  // of 64 bytes
constexpr int kMostTiles = kBlockKeys / kTileRows;
constexpr int kLinesTogether = 4;  // of a value, summed in tiles 4 to 7
constexpr int kLinesKept = 2;      // of queries, in tiles 1 and 6, if they have no more
// Lines of a tile are read fastest so far apart.
constexpr int64_t kApartBytes = 256;

// Query heads that are worked on together: their scores, and some of them at a time their values.
template <int kHeads>
struct Slot {
  static constexpr int kRows = kHeads;
  static constexpr int kSummed = kRows < 8 ? kRows : 8;
  static constexpr int64_t kScoreBytes = kTileRows * kRows * 4;         // [16 keys][heads]
  static constexpr int64_t kQueryBytes = kTileRows * kRows * 4;         // [16 pairs][heads]
  static constexpr int64_t kWeightBytes = kSummed * 2 * kTileRows * 4;  // [head][even, odd][16]
  static constexpr int64_t kSumElements = kSummed * kLineElements;      // [head][even, odd][16]
};
using Few = Slot<4>;
using Many = Slot<16>;
static_assert(kMostTiles * (Many::kScoreBytes + 2 * Many::kWeightBytes) <= kScoreScratchBytes);

constexpr int rows_together(int64_t rows) { return rows <= 4 ? 4 : 16; }

struct DecodeOp : PairsOp {
  static void order_columns(float*, int) {}
};

// The keys of a tile are neighbours, or where they are shorter than kApartBytes every second or
// fourth, so that some tiles share theirs.
constexpr int apart_log2(int64_t lines) {
  return lines > kApartBytes / 128 ? 0 : lines > kApartBytes / 256 ? 1 : 2;
}

// What a slot meets. Where all of it is seen it is in registers while tiles are loaded: loads from
// the stack, too, would wait for stores that wait for memory.
struct Page {
  int64_t lines;  // of a row
  const std::byte* keys;
  const std::byte* values;
  int first, last;  // tiles that see keys
  bool is_masked;
  bool is_met_again;              // by other heads than those that meet it first
  int64_t seen_first, seen_last;  // keys
  // The slot, and what of the scratch is its own.
  int64_t rows;
  float scale_log2;
  const std::byte* queries;
  std::byte* score_scratch;
  float* sum_scratch;
  float* maxima;
  float* denominators;

  int64_t row_bytes() const { return lines * 64; }
  int64_t first_key(int tile) const {
    const int apart = apart_log2(lines);
    return (tile >> apart << (apart + 4)) + (tile & ((1 << apart) - 1));
  }
  // Of the first line of a tile, and from each to the next.
  int64_t offset(int tile) const { return first_key(tile) * row_bytes(); }
  int64_t stride() const { return row_bytes() << apart_log2(lines); }

  template <class S>
  std::byte* scores(int tile) const {
    return score_scratch + tile * S::kScoreBytes;
  }
  // Of a head of the slot and those behind it that are summed with it.
  template <class S>
  std::byte* weights(int64_t head, int tile) const {
    return score_scratch + kMostTiles * S::kScoreBytes +
           (head / S::kSummed * kMostTiles + tile) * S::kWeightBytes + head % S::kSummed * 128;
  }
  template <class S>
  float* sums(int64_t head, int64_t line) const {
    return sum_scratch + head / S::kSummed * S::kSummed * (lines * kLineElements) +
           line * S::kSumElements + head % S::kSummed * kLineElements;
  }
};

// Tile 0: scores; 1 and 6: queries; 2: keys, or values; 3: weights; 4 to 7: sums.
template <int kRows>
void configure_tiles(int head_dim) {
  TileConfig config;
  for (int tile : {3, 4, 5, 6, 7}) config.rows[tile] = 2 * Slot<kRows>::kSummed;
  for (int tile : {0, 1}) config.row_bytes[tile] = kRows * 4;
  if (head_dim <= kLinesKept * kLineElements) {
    config.rows[6] = kTileRows;
    config.row_bytes[6] = kRows * 4;
  }
  load_config(config);
}

// 16 lanes of each row to [16][rows].
inline void turn_queries(Bits (&rows)[4], std::byte* out) {
  transpose_quarters(rows);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const auto put = [&](int row, __m128i x) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + row * 16), x);
    };
    put(i, _mm512_extracti32x4_epi32(rows[i], 0));
    put(i + 4, _mm512_extracti32x4_epi32(rows[i], 1));
    put(i + 8, _mm512_extracti32x4_epi32(rows[i], 2));
    put(i + 12, _mm512_extracti32x4_epi32(rows[i], 3));
  }
}

inline void turn_queries(Bits (&rows)[16], std::byte* out) {
  transpose(rows);
  for (int i = 0; i < 16; ++i) store_bits(out + i * 64, rows[i]);
}

// Packs query heads as B operands.
template <int kRows>
void begin_slots(const QueryBlock& queries) {
  const int64_t query_bytes = padded_steps<PairsOp>(queries.head_dim) * kStepBytes;
  for (int64_t row = 0; row < queries.rows; row += kRows) {
    std::byte* packed = queries.scratch.queries + row * query_bytes;
    std::byte* turned = queries.scratch.keys;
    for (int64_t i = 0; i < query_bytes; i += 64, turned += Slot<kRows>::kQueryBytes) {
      Bits rows[kRows];
      for (int r = 0; r < kRows; ++r) rows[r] = load_bits(packed + r * query_bytes + i);
      turn_queries(rows, turned);
    }
    __builtin_memcpy(packed, queries.scratch.keys, static_cast<size_t>(kRows * query_bytes));
  }
}

void begin_decode(const QueryBlock& all) {
  for (int head = 0; head < all.kv_heads; ++head) {
    const QueryBlock queries = of_kv_head<PairsOp>(all, head);
    begin_queries<PairsOp>(queries);
    rows_together(queries.rows) == 4 ? begin_slots<4>(queries) : begin_slots<16>(queries);
  }
  if (rows_together(all.rows) == 4) return configure_tiles<4>(all.head_dim);
  // The weights of heads that are not there: of few, all four are weighed.
  for (int64_t i = 0; i < 2 * kMostTiles * Many::kWeightBytes; i += 64)
    store_bits(all.scratch.scores + kMostTiles * Many::kScoreBytes + i, zero_bits());
  configure_tiles<16>(all.head_dim);
}

// Keys or values. What is asked for past the L2 cache does not stay for the next to meet it.
inline void load_lines(const std::byte* p, int64_t stride, bool is_met_again) {
  if (is_met_again)
    _tile_loadd(2, p, stride);
  else
    _tile_stream_loadd(2, p, stride);
}

template <class S, int kLines>
inline void multiply_keys(const std::byte* queries, const std::byte* keys, const Page& page) {
#pragma GCC unroll 4
  for (int line = 0; line < kLines; ++line) {
    _tile_loadd(1, queries + line * S::kQueryBytes, S::kQueryBytes / kTileRows);
    load_lines(keys + line * 64, page.stride(), page.is_met_again);
    _tile_dpbf16ps(0, 2, 1);
  }
}

// Rows are some times kLinesTogether lines and kLast more.
template <class S, int kLast, bool kIsKept>
__attribute__((always_inline)) inline void score_keys(const Page& page) {
  constexpr int64_t kRowBytes = S::kQueryBytes / kTileRows;
  if (kIsKept) _tile_loadd(1, page.queries, kRowBytes);
  if (kIsKept && kLast == kLinesKept) _tile_loadd(6, page.queries + S::kQueryBytes, kRowBytes);
  for (int tile = page.first; tile < page.last; ++tile) {
    const std::byte* keys = page.keys + page.offset(tile);
    _tile_zero(0);
    if (kIsKept) {
      load_lines(keys, page.stride(), page.is_met_again);
      _tile_dpbf16ps(0, 2, 1);
      if (kLast == kLinesKept) {
        load_lines(keys + 64, page.stride(), page.is_met_again);
        _tile_dpbf16ps(0, 2, 6);
      }
    } else {
      const std::byte* queries = page.queries;
      for (int64_t line = kLast; line < page.lines; line += kLinesTogether) {
        multiply_keys<S, kLinesTogether>(queries, keys, page);
        queries += kLinesTogether * S::kQueryBytes;
        keys += kLinesTogether * 64;
      }
      multiply_keys<S, kLast>(queries, keys, page);
    }
    _tile_stored(0, page.scores<S>(tile), kRowBytes);
  }
}

template <class S, int kLines>
inline void load_sums(const float* sums) {
  _tile_loadd(4, sums, 64);
  if constexpr (kLines > 1) _tile_loadd(5, sums + S::kSumElements, 64);
  if constexpr (kLines > 2) _tile_loadd(6, sums + 2 * S::kSumElements, 64);
  if constexpr (kLines > 3) _tile_loadd(7, sums + 3 * S::kSumElements, 64);
}

template <class S, int kLines>
inline void store_sums(float* sums) {
  _tile_stored(4, sums, 64);
  if constexpr (kLines > 1) _tile_stored(5, sums + S::kSumElements, 64);
  if constexpr (kLines > 2) _tile_stored(6, sums + 2 * S::kSumElements, 64);
  if constexpr (kLines > 3) _tile_stored(7, sums + 3 * S::kSumElements, 64);
}

template <int kLines>
inline void multiply_values(const std::byte* values, const Page& page) {
  const auto load = [&](int line) __attribute__((always_inline)) {
    load_lines(values + line * 64, page.stride(), page.is_met_again);
  };
  load(0);
  _tile_dpbf16ps(4, 3, 2);
  if constexpr (kLines > 1) {
    load(1);
    _tile_dpbf16ps(5, 3, 2);
  }
  if constexpr (kLines > 2) {
    load(2);
    _tile_dpbf16ps(6, 3, 2);
  }
  if constexpr (kLines > 3) {
    load(3);
    _tile_dpbf16ps(7, 3, 2);
  }
}

// [16 keys][heads] to a row for each head.
inline void turn_scores(const std::byte* x, Vec (&scores)[4]) {
  Bits rows[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) rows[i] = load_quarters(x + i * 16, 16);
  transpose_quarters(rows);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) scores[i] = as_floats(rows[i]);
}

inline void turn_scores(const std::byte* x, Vec (&scores)[16]) {
  Bits rows[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = load_bits(x + i * 64);
  transpose(rows);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) scores[i] = as_floats(rows[i]);
}

inline Vec weights_of(Vec scores, Vec scale, float maximum) {
  return grown_exp2(_mm512_fmsub_ps(scores, scale, set1(maximum)));
}

inline void put_weights(std::byte* to, Vec weights) {
  const Bits bits = _mm512_castps_si512(weights);
  store_bits(to, _mm512_srli_epi32(bits, 16));
  store_bits(to + 64, _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

// A head that meets its first key, or whose weights have grown too large: raises its maximum, by a
// whole power of two if it had one, and shrinks what has been summed and weighed so far.
template <class S>
void raise(Page page, int head, int tile, Vec scores) {
  float* lanes = page.denominators + head * kDenominatorLanes;
  float& maximum = page.maxima[head];
  const float top = largest(scores) * page.scale_log2;
  if (maximum == -__builtin_inff()) {
    maximum = top;
    return;
  }
  if (!(top > maximum)) return;
  const float rise = __builtin_ceilf(top - maximum);
  maximum += rise;
  const Vec factor = _mm512_scalef_ps(set1(1), set1(-rise));
  store(lanes, mul(load(lanes), factor));
  for (int64_t line = 0; line < page.lines; ++line) {
    float* sums = page.sums<S>(head, line);
    store(sums, mul(load(sums), factor));
    store(sums + kWidth, mul(load(sums + kWidth), factor));
  }
  for (int before = page.first; before < tile; ++before) {
    std::byte* weights = page.weights<S>(head, before);
    put_weights(weights, mul(as_floats(load_bits(weights + 64)), factor));
  }
}

// weigh_rows where it does not do for some of them.
template <class S, int kLines>
__attribute__((noinline)) void weigh_raised(Page page, int head, int tile, const float* turned,
                                            float* loaded) {
  store_sums<S, kLines>(loaded);
  const Vec scale = set1(page.scale_log2);
  for (int end = head + kRowsWeighed; head < end; ++head, turned += kWidth) {
    const Vec scores = load(turned);
    const float& maximum = page.maxima[head];
    if (too_large(weights_of(scores, scale, maximum)) != 0) raise<S>(page, head, tile, scores);
    const Vec weights = maximum == -__builtin_inff() ? zero() : weights_of(scores, scale, maximum);
    put_weights(page.weights<S>(head, tile), weights);
    float* lanes = page.denominators + head * kDenominatorLanes;
    store(lanes, add(load(lanes), weights));
  }
  memory_is_read();
  load_sums<S, kLines>(loaded);
}

// Weighs kRowsWeighed heads of the slot.
template <class S, int kLines>
inline void weigh_rows(const Page& page, int head, int tile, const Vec* scores, float* loaded) {
  const Vec scale = set1(page.scale_log2);
  const float* maxima = page.maxima + head;
  Vec found[kRowsWeighed];
#pragma GCC unroll 4
  for (int i = 0; i < kRowsWeighed; ++i) found[i] = weights_of(scores[i], scale, maxima[i]);
  const Vec total = add(add(found[0], found[1]), add(found[2], found[3]));
  if (too_large(total) != 0) [[unlikely]] {
    alignas(64) float turned[kRowsWeighed * kWidth];
    for (int i = 0; i < kRowsWeighed; ++i) store(turned + i * kWidth, scores[i]);
    return weigh_raised<S, kLines>(page, head, tile, turned, loaded);
  }
  std::byte* weights = page.weights<S>(head, tile);
  float* lanes = page.denominators + head * kDenominatorLanes;
#pragma GCC unroll 4
  for (int i = 0; i < kRowsWeighed; ++i) {
    put_weights(weights + i * 128, found[i]);
    store(lanes + i * kDenominatorLanes, add(load(lanes + i * kDenominatorLanes), found[i]));
  }
}

// Bits of the keys that are seen.
__attribute__((noinline)) uint32_t seen_keys(Page page, int tile) {
  uint32_t bits = 0;
  for (int i = 0; i < kTileRows; ++i) {
    const int64_t key = page.first_key(tile) + (i << apart_log2(page.lines));
    bits |= static_cast<uint32_t>(page.seen_first <= key && key < page.seen_last) << i;
  }
  return bits;
}

// Turns the scores of a tile of keys into weights. `loaded`: what is in tiles 4 to 3 + kLines.
template <int kRows, int kLines>
__attribute__((always_inline)) inline void weigh_tile(const Page& page, int tile, float* loaded) {
  using S = Slot<kRows>;
  Vec scores[kRows];
  turn_scores(page.scores<S>(tile), scores);
  if (page.is_masked) [[unlikely]] {
    const auto seen = static_cast<__mmask16>(seen_keys(page, tile));
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
      scores[i] = _mm512_mask_mov_ps(set1(-__builtin_inff()), seen, scores[i]);
  }
#pragma GCC unroll 4
  for (int head = 0; head < kRows; head += kRowsWeighed)
    if (head < page.rows) weigh_rows<S, kLines>(page, head, tile, scores + head, loaded);
}

// Adds the weighted values of kLines lines from `line` on to the sums of `head` and those summed
// with it. The first time scores become weights on the way, tile by tile, so that values are on
// their way while they do.
template <int kRows, int kLines>
__attribute__((always_inline)) inline void sum_lines(const Page& page, int64_t head, int64_t line) {
  using S = Slot<kRows>;
  float* sums = page.sums<S>(head, line);
  load_sums<S, kLines>(sums);
  for (int tile = page.first; tile < page.last; ++tile) {
    if (head == 0 && line == 0) weigh_tile<kRows, kLines>(page, tile, sums);
    memory_is_read();
    _tile_loadd(3, page.weights<S>(head, tile), 64);
    multiply_values<kLines>(page.values + page.offset(tile) + line * 64, page);
  }
  store_sums<S, kLines>(sums);
}

// The values of a page that is not full, with zeros behind the last: what lies there may be NaN.
const std::byte* whole_values(const std::byte* values, int64_t row_bytes, int end,
                              std::byte* copy) {
  __builtin_memcpy(copy, values, static_cast<size_t>(end * row_bytes));
  __builtin_memset(copy + end * row_bytes, 0, static_cast<size_t>((kBlockKeys - end) * row_bytes));
  return copy;
}

// kLines: of a row, where all keys are seen; or 0.
template <int kRows, int kLast, int kLines>
__attribute__((always_inline)) inline void attend_slot(const Page& page) {
  using S = Slot<kRows>;
  memory_is_read();
  score_keys<S, kLast, 0 < kLines && kLines <= kLinesKept>(page);
  memory_is_read();
  for (int64_t head = 0; head < page.rows; head += S::kSummed) {
    int64_t line = 0;
    for (; line + kLast < page.lines; line += kLinesTogether)
      sum_lines<kRows, kLinesTogether>(page, head, line);
    sum_lines<kRows, kLast>(page, head, line);
  }
  memory_is_read();
}

// The slots of all KV heads, one after the other, as their keys and their scratch lie.
template <int kRows, int kLast, int kLines>
void attend(const QueryBlock& queries, const KeyBlock& keys, const Page& first) {
  Page page = first;
  if (kRows == 4) page.is_met_again = false;
  if (kLines > 0) {
    page.lines = kLines;
    page.first = 0;
    page.last = kMostTiles;
    page.is_masked = false;
  }
  for (int head = 0; head < queries.kv_heads; ++head) {
    page.values = page.keys + kBlockKeys * page.row_bytes();
    if (kLines == 0 && keys.end < kBlockKeys)
      page.values = whole_values(page.values, page.row_bytes(), keys.end, queries.scratch.values);
    for (int64_t rest = queries.rows; rest > 0; rest -= kRows) {
      page.rows = kRows == 4 || rest > kRows ? kRows : rest;
      attend_slot<kRows, kLast, kLines>(page);
      page.queries += kRows * page.row_bytes();
      page.sum_scratch += kRows * page.lines * kLineElements;
      page.maxima += kRows;
      page.denominators += kRows * kDenominatorLanes;
      if (kRows == 4) break;
    }
    page.keys += 2 * kBlockKeys * page.row_bytes();
  }
}

template <int kRows>
void attend(const QueryBlock& queries, const KeyBlock& keys, const Page& first) {
  const bool is_seen = first.first == 0 && first.last == kMostTiles && !first.is_masked;
  switch (is_seen ? first.lines : 0) {
    case 1:
      return attend<kRows, 1, 1>(queries, keys, first);
    case 2:
      return attend<kRows, 2, 2>(queries, keys, first);
    case 3:
      return attend<kRows, 3, 3>(queries, keys, first);
    case 4:
      return attend<kRows, 4, 4>(queries, keys, first);
    case 8:
      return attend<kRows, 4, 8>(queries, keys, first);
    default:
      break;
  }
  switch (first.lines % kLinesTogether) {
    case 1:
      return attend<kRows, 1, 0>(queries, keys, first);
    case 2:
      return attend<kRows, 2, 0>(queries, keys, first);
    case 3:
      return attend<kRows, 3, 0>(queries, keys, first);
    default:
      return attend<kRows, 4, 0>(queries, keys, first);
  }
}

uint64_t decode_keys(const QueryBlock& queries, const KeyBlock& keys) {
  const Places seen = visible_places(keys, keys.tiles[0], queries.first_position);
  if (seen.last <= seen.first) return 0;
  const int64_t lines = row_source_bytes<PairsOp>(queries.head_dim) / 64;
  const int apart = apart_log2(lines), shared = apart + 4;  // tiles share 2^shared keys
  const auto first = static_cast<int>(seen.first >> shared);
  const auto last = static_cast<int>((seen.last - 1) >> shared) + 1;
  const bool is_whole = seen.first == first << shared && seen.last == last << shared;
  const AttentionScratch& scratch = queries.scratch;
  const Page page{.lines = lines,
                  .keys = keys.pages[0],
                  .values = nullptr,
                  .first = first << apart,
                  .last = last << apart,
                  .is_masked = !is_whole,
                  .is_met_again = queries.rows > Many::kSummed,
                  .seen_first = seen.first,
                  .seen_last = seen.last,
                  .rows = 0,
                  .scale_log2 = queries.scale_log2,
                  .queries = scratch.queries,
                  .score_scratch = scratch.scores,
                  .sum_scratch = scratch.sums,
                  .maxima = scratch.maxima,
                  .denominators = scratch.denominators};
  rows_together(queries.rows) == 4 ? attend<4>(queries, keys, page)
                                   : attend<16>(queries, keys, page);
  return static_cast<uint64_t>(queries.kv_heads * queries.rows * (page.last - page.first) *
                               kTileRows);
}

// Puts the sums of even and odd columns together.
template <class S>
void order_sums(const QueryBlock& queries) {
  const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i high =
      _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
  float* copy = reinterpret_cast<float*>(queries.scratch.values);
  for (int64_t row = 0; row < queries.rows; row += S::kSummed) {
    float* sums = queries.scratch.sums + row * queries.head_dim;
    __builtin_memcpy(copy, sums, static_cast<size_t>(S::kSummed * queries.head_dim) * 4);
    for (int64_t i = 0; i < S::kSummed; ++i)
      for (int64_t column = 0; column < queries.head_dim; column += kLineElements) {
        const float* from = copy + column * S::kSummed + i * kLineElements;
        float* to = sums + i * queries.head_dim + column;
        store(to, _mm512_permutex2var_ps(load(from), low, load(from + kWidth)));
        store(to + kWidth, _mm512_permutex2var_ps(load(from), high, load(from + kWidth)));
      }
  }
}

void finish_decode(const QueryBlock& all, const AttentionOutput* output) {
  _tile_release();
  for (int head = 0; head < all.kv_heads; ++head) {
    const QueryBlock queries = of_kv_head<PairsOp>(all, head);
    rows_together(queries.rows) == 4 ? order_sums<Few>(queries) : order_sums<Many>(queries);
    finish_queries<DecodeOp>(queries, output);
  }
}

}  // namespace

const AttentionKernel kDecodeBf16Amx = {begin_decode, decode_keys, finish_decode, kBlockKeys};

}  // namespace kvasir::kernels

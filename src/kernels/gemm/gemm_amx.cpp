// bf16 weights where the CPU has tiles: 32 rows x 32 outputs in four accumulators. A tile of B is
// 16 steps x 16 outputs of a panel as it lies; a tile of A is 16 rows x 32 k of the activations as
// they lie.
//
// What limits the rate is the way from the L2 to the L1 cache. k is therefore cut into blocks short
// enough that half a panel of one block stays in the L1 cache while all rows pass by; between
// blocks the sums rest in memory. The blocks are the same for every number of rows, and so is the
// order of the sums.

#include <immintrin.h>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

#include "kernels/simd_avx512.inc"

constexpr int kTileRows = 16;
constexpr int kTileOutputs = 16;
constexpr int kTileK = 32;                                        // of one tile of A
constexpr int64_t kTileBytesOfA = kTileK * 2;                     // in a row
constexpr int64_t kTileBytesOfB = kTileOutputs * kStepBytes;      // in a step
constexpr int64_t kTileStepBytes = kTileK / 2 * kPanelStepBytes;  // from tile to tile of B
constexpr int64_t kSumsRowBytes = kPanelOutputs * sizeof(float);
constexpr int64_t kLine = 64;

// Tiles of k in one block, and how many a product may have to take a single one: then the sums need
// not rest.
constexpr int64_t kBlockTiles = 8;
constexpr int64_t kLoneBlockTiles = 16;
// How far a stream over the weights reads ahead of itself.
constexpr int64_t kStreamAheadBytes = 16 << 10;

// Tiles 0-3: sums. 4, 5: rows of A (with 16 rows in all, 5 is of B). 6, 7: B.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// g++ takes tile loads for code that reads no memory, and a loop of nothing but prefetches for code
// without effect.
inline void memory_is_read() { asm volatile("" ::: "memory"); }
inline void prefetch_l2(const std::byte* p) { asm volatile("prefetcht1 %0" ::"m"(*p)); }

// The operands of `tiles` consecutive tiles of k.
struct Stretch {
  const std::byte* a = nullptr;
  int64_t a_row_bytes = 0;
  const std::byte* b = nullptr;
  int64_t tiles = 0;
};

// What is fetched during a stretch: with each tile `lines` consecutive lines of weights, and a line
// of each of four rows of A.
constexpr int kFetchedRows = 4;
struct Fetch {
  const std::byte* weights = nullptr;
  int lines = 0;
  const std::byte* a = nullptr;  // or null
  int64_t a_row_bytes = 0;

  void step() {
    for (int i = 0; i < lines; ++i) prefetch_l2(weights + i * kLine);
    weights += lines * kLine;
    if (!a) return;
#pragma GCC unroll 4
    for (int i = 0; i < kFetchedRows; ++i) prefetch_l2(a + i * a_row_bytes);
    a += kLine;
  }
};

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

#include "kernels/gemm/gemm_finish.inc"

// Tiles 0-3 in memory, as parts of rows of 64 outputs: tiles 1, 2 and 3 lie `second`, `third` and
// `fourth` floats behind tile 0.
struct SumTiles {
  float* at = nullptr;
  int second = 0, third = 0, fourth = 0;

  void load() const {
    memory_is_read();
    _tile_loadd(0, at, kSumsRowBytes);
    _tile_loadd(1, at + second, kSumsRowBytes);
    _tile_loadd(2, at + third, kSumsRowBytes);
    _tile_loadd(3, at + fourth, kSumsRowBytes);
  }
  void store() const {
    _tile_stored(0, at, kSumsRowBytes);
    _tile_stored(1, at + second, kSumsRowBytes);
    _tile_stored(2, at + third, kSumsRowBytes);
    _tile_stored(3, at + fourth, kSumsRowBytes);
  }
};

// A product of up to 256 rows and 4 panels.
class AmxProduct {
 public:
  explicit AmxProduct(const GemmTile& tile)
      : tile_(tile),
        whole_tiles_(tile.k / kTileK),
        has_tail_(tile.k % kTileK != 0),
        pairs_((tile.rows + kTileRows - 1) / kAmxRowsPerBlock) {
    if (has_tail_) copy_tails();
  }
  ~AmxProduct() { _tile_release(); }

  void run() {
    const int64_t tiles = whole_tiles_ + has_tail_;
    is_lone_ = tiles <= kLoneBlockTiles || pairs_ <= 1;
    if (is_lone_)
      run_lone(tiles);
    else
      run_blocks(tiles);
  }

 private:
  // A block of k of a panel.
  struct Block {
    int panel = 0;
    int64_t first = 0, end = 0;  // tiles
    bool is_last = false;
  };
  // The last, incomplete tiles of k, filled up with zeros: of all rows and of every panel.
  void copy_tails() {
    const int64_t rest = tile_.k % kTileK;
    const int64_t steps = (rest + 1) / 2;
    for (int64_t row = 0; row < tile_.rows; ++row) {
      uint16_t* out = tail_a_ + row * kTileK;
      __builtin_memset(out, 0, kTileBytesOfA);
      __builtin_memcpy(out, tile_.a + row * tile_.a_row_bytes + whole_tiles_ * kTileBytesOfA,
                       static_cast<size_t>(rest * 2));
    }
    for (int panel = 0; panel < tile_.panels; ++panel) {
      std::byte* out = tail_b_ + panel * kTileStepBytes;
      __builtin_memset(out, 0, kTileStepBytes);
      __builtin_memcpy(out, weights(panel, whole_tiles_),
                       static_cast<size_t>(steps * kPanelStepBytes));
    }
  }

  // Short k: 32 rows stay in the L1 cache while all panels pass by, and so do their sums until they
  // are finished.
  void run_lone(int64_t tiles) {
    Block block{.end = tiles, .is_last = true};
    for (int64_t pair = 0; pair < pairs_; ++pair)
      for (block.panel = 0; block.panel < tile_.panels; ++block.panel)
        for (int half = 0; half < 2; ++half) {
          const int64_t turn = 2 * (pair * tile_.panels + block.panel) + half;
          run_pair(block, pair, half, fetch(weights(tile_.panels, 0), turn, tiles));
        }
    for (block.panel = 0; block.panel < tile_.panels; ++block.panel) run_rest(block);
  }

  // Long k: half a panel of a block of k stays in the L1 cache while all rows pass by, and the sums
  // rest in memory.
  void run_blocks(int64_t tiles) {
    for (int64_t first = 0; first < tiles; first += kBlockTiles) {
      Block block{.first = first, .end = first + kBlockTiles < tiles ? first + kBlockTiles : tiles};
      block.is_last = block.end == tiles;
      for (block.panel = 0; block.panel < tile_.panels; ++block.panel) {
        for (int half = 0; half < 2; ++half)
          for (int64_t pair = 0; pair < pairs_; ++pair)
            run_pair(block, pair, half, fetch_with_rows(block, half * pairs_ + pair));
        run_rest(block);
      }
    }
  }

  // The last rows, where they are 16 or fewer.
  void run_rest(const Block& block) {
    if (pairs_ * kAmxRowsPerBlock < tile_.rows) run_single(block, pairs_ * kAmxRowsPerBlock);
  }

  // 32 rows and half a panel.
  void run_pair(const Block& block, int64_t pair, int half, const Fetch& next) {
    const int64_t row = pair * kAmxRowsPerBlock;
    const int64_t rows = rows_from(row);
    configure(kTileRows, static_cast<int>(rows) - kTileRows);
    float* sums = sums_of(block.panel, row);
    const SumTiles tiles{.at = sums + half * 2 * kTileOutputs,
                         .second = kTileOutputs,
                         .third = kTileRows * kPanelOutputs,
                         .fourth = kTileRows * kPanelOutputs + kTileOutputs};
    block.first == 0 ? zero_sums() : tiles.load();
    const int64_t offset = half * 2 * kTileBytesOfB;
    const Stretch main = stretch(block, row, offset);
    multiply_pair(main, next);
    if (block.is_last && has_tail_) multiply_pair(tail(block.panel, row, offset), {});
    tiles.store();
    if (block.is_last && half == 1) finish_rows(block.panel, row, rows, sums);
  }

  void run_single(const Block& block, int64_t row) {
    const int64_t rows = rows_from(row);
    configure(static_cast<int>(rows), 0);
    float* sums = sums_of(block.panel, row);
    const SumTiles tiles{
        .at = sums, .second = kTileOutputs, .third = 2 * kTileOutputs, .fourth = 3 * kTileOutputs};
    block.first == 0 ? zero_sums() : tiles.load();
    const Stretch main = stretch(block, row, 0);
    Fetch next;
    if (row == 0) next = {.weights = main.b + kStreamAheadBytes, .lines = kTileStepBytes / kLine};
    multiply_single(main, next);
    if (block.is_last && has_tail_) multiply_single(tail(block.panel, row, 0), {});
    tiles.store();
    if (block.is_last) finish_rows(block.panel, row, rows, sums);
  }

  // 17 to 32 rows x 32 outputs.
  void multiply_pair(const Stretch& s, Fetch next) {
    const std::byte* a = s.a;
    const std::byte* lower = s.a + kTileRows * s.a_row_bytes;
    const std::byte* b = s.b;
    for (int64_t tile = 0; tile < s.tiles; ++tile) {
      _tile_loadd(4, a, s.a_row_bytes);
      _tile_loadd(6, b, kPanelStepBytes);
      _tile_loadd(7, b + kTileBytesOfB, kPanelStepBytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, lower, s.a_row_bytes);
      _tile_dpbf16ps(1, 4, 7);
      next.step();
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      a += kTileBytesOfA;
      lower += kTileBytesOfA;
      b += kTileStepBytes;
    }
  }

  // Up to 16 rows x 64 outputs.
  void multiply_single(const Stretch& s, Fetch next) {
    const std::byte* a = s.a;
    const std::byte* b = s.b;
    for (int64_t tile = 0; tile < s.tiles; ++tile) {
      next.step();
      _tile_loadd(4, a, s.a_row_bytes);
      _tile_loadd(5, b, kPanelStepBytes);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, b + kTileBytesOfB, kPanelStepBytes);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, b + 2 * kTileBytesOfB, kPanelStepBytes);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, b + 3 * kTileBytesOfB, kPanelStepBytes);
      _tile_dpbf16ps(3, 4, 5);
      a += kTileBytesOfA;
      b += kTileStepBytes;
    }
  }

  void finish_rows(int panel, int64_t row, int64_t rows, const float* sums) const {
    const int outputs = tile_.epilogue == Epilogue::kSiluMul ? kPairOutputs : kPanelOutputs;
    finish(tile_, row, int64_t{panel} * outputs, {.sums = sums, .rows = rows, .width = outputs});
  }

  Stretch stretch(const Block& block, int64_t row, int64_t offset) const {
    const int64_t end = block.end < whole_tiles_ ? block.end : whole_tiles_;
    return {.a = tile_.a + row * tile_.a_row_bytes + block.first * kTileBytesOfA,
            .a_row_bytes = tile_.a_row_bytes,
            .b = weights(block.panel, block.first) + offset,
            .tiles = end - block.first};
  }
  Stretch tail(int panel, int64_t row, int64_t offset) const {
    return {.a = reinterpret_cast<const std::byte*>(tail_a_ + row * kTileK),
            .a_row_bytes = kTileBytesOfA,
            .b = tail_b_ + panel * kTileStepBytes + offset,
            .tiles = 1};
  }

  // The part of the weights from `next` on that the `turn`-th stretch of `tiles` fetches: all pairs
  // and halves of a panel together fetch as many weights as they read.
  Fetch fetch(const std::byte* next, int64_t turn, int64_t tiles) const {
    const int64_t lines = (kTileStepBytes / kLine + 2 * pairs_ - 1) / (2 * pairs_);
    return {.weights = next + turn * lines * kLine * tiles, .lines = static_cast<int>(lines)};
  }
  // The panels of a block together fetch the rows' next block as well.
  Fetch fetch_with_rows(const Block& block, int64_t turn) const {
    const std::byte* weights_next = block.panel + 1 < tile_.panels
                                        ? weights(block.panel + 1, block.first)
                                    : block.is_last ? weights(tile_.panels, 0)
                                                    : weights(0, block.end);
    Fetch next = fetch(weights_next, turn, block.end - block.first);
    if (block.is_last) return next;
    const int64_t row = turn * kTileRows + block.panel * kFetchedRows;
    next.a = tile_.a + row * tile_.a_row_bytes + block.end * kTileBytesOfA;
    next.a_row_bytes = tile_.a_row_bytes;
    return next;
  }

  // Of 32 rows, or of fewer at the end.
  int64_t rows_from(int64_t row) const {
    const int64_t left = tile_.rows - row;
    return left < kAmxRowsPerBlock ? left : kAmxRowsPerBlock;
  }
  const std::byte* weights(int panel, int64_t tile) const {
    return tile_.weight + panel * tile_.panel_bytes + tile * kTileStepBytes;
  }
  float* sums_of(int panel, int64_t row) {
    if (is_lone_) return sums_;
    return sums_ + (panel * kAmxMaxTileRows + row) * kPanelOutputs;
  }

  // `lower` = 0: up to 16 rows x 64 outputs.
  void configure(int upper, int lower) {
    if (upper == upper_ && lower == lower_) return;
    upper_ = upper;
    lower_ = lower;
    TileShapes shapes;
    const bool is_pair = lower > 0;
    shapes.rows[0] = shapes.rows[1] = shapes.rows[4] = static_cast<uint8_t>(upper);
    shapes.rows[2] = shapes.rows[3] = static_cast<uint8_t>(is_pair ? lower : upper);
    shapes.rows[5] = static_cast<uint8_t>(is_pair ? lower : kTileRows);
    memory_is_read();
    _tile_loadconfig(&shapes);
  }

  const GemmTile& tile_;
  const int64_t whole_tiles_;
  const bool has_tail_;
  const int64_t pairs_;  // of 32 rows, the last of 17 at least
  bool is_lone_ = false;
  int upper_ = 0;
  int lower_ = 0;
  alignas(64) float sums_[kAmxMaxPanels * kAmxMaxTileRows * kPanelOutputs];
  alignas(64) uint16_t tail_a_[kAmxMaxTileRows * kTileK];
  alignas(64) std::byte tail_b_[kAmxMaxPanels * kTileStepBytes];
};

}  // namespace

void gemm_tile_bf16_amx(const GemmTile& tile) { AmxProduct(tile).run(); }

}  // namespace kvasir::kernels

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
constexpr int kTileK = 32;                                        // of one tile of A
constexpr int kTileSteps = kTileK / 2;                            // of one tile of B
constexpr int64_t kTileStepBytes = kTileSteps * kPanelStepBytes;  // from tile to tile of B
constexpr int64_t kTileBytesOfA = kTileK * 2;
constexpr int kHalfBytes = 2 * kTileRows * kStepBytes;  // 32 outputs of a step
constexpr int64_t kSumsRowBytes = kPanelOutputs * sizeof(float);
constexpr int64_t kLine = 64;

// Tiles of k in one block.
constexpr int64_t kBlockTiles = 8;
// Products with no more tiles than this take one block: the sums need not rest.
constexpr int64_t kLoneBlockTiles = 16;
// How far a stream over the weights reads ahead of itself.
constexpr int64_t kStreamAheadBytes = 16 << 10;

// Tiles 0-3: sums. 4, 5: rows of A (with 16 outputs side by side, 5 is of B). 6, 7: B.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// g++ takes the tile loads for code that reads no memory.
inline void memory_is_read() { asm volatile("" ::: "memory"); }

// What is to be brought into the L2 cache meanwhile: `lines` consecutive cache lines for each tile
// of k, and one line in each of `rows` rows.
struct Ahead {
  const std::byte* at = nullptr;
  int lines = 0;
  const std::byte* a = nullptr;
  int64_t a_row_bytes = 0;
  int a_rows = 0;

  void touch(int64_t tile) const {
    for (int i = 0; i < lines; ++i)
      _mm_prefetch(reinterpret_cast<const char*>(at + (tile * lines + i) * kLine), _MM_HINT_T1);
    for (int i = 0; i < a_rows; ++i)
      _mm_prefetch(reinterpret_cast<const char*>(a + i * a_row_bytes + tile * kLine), _MM_HINT_T1);
  }
};

// The operands of `tiles` consecutive tiles of k.
struct Stretch {
  const std::byte* a = nullptr;
  int64_t a_row_bytes = 0;
  const std::byte* b = nullptr;
  int64_t tiles = 0;
};

// 17 to 32 rows x 32 outputs.
inline void multiply_half(const Stretch& s, const Ahead& ahead) {
  const std::byte* lower = s.a + kTileRows * s.a_row_bytes;
  for (int64_t tile = 0; tile < s.tiles; ++tile) {
    const std::byte* b = s.b + tile * kTileStepBytes;
    _tile_loadd(4, s.a + tile * kTileBytesOfA, s.a_row_bytes);
    _tile_loadd(6, b, kPanelStepBytes);
    _tile_loadd(7, b + 64, kPanelStepBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, lower + tile * kTileBytesOfA, s.a_row_bytes);
    _tile_dpbf16ps(1, 4, 7);
    ahead.touch(tile);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// Up to 16 rows x 64 outputs.
inline void multiply_whole(const Stretch& s, const Ahead& ahead) {
  for (int64_t tile = 0; tile < s.tiles; ++tile) {
    const std::byte* b = s.b + tile * kTileStepBytes;
    ahead.touch(tile);
    _tile_loadd(4, s.a + tile * kTileBytesOfA, s.a_row_bytes);
    _tile_loadd(5, b, kPanelStepBytes);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, b + 64, kPanelStepBytes);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, b + 128, kPanelStepBytes);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, b + 192, kPanelStepBytes);
    _tile_dpbf16ps(3, 4, 5);
  }
}

#include "kernels/gemm/gemm_finish.inc"

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// `right` and `below`: from sums to sums of tiles 1 and 2.
inline void load_sums(const std::byte* sums, int64_t second, int64_t third, int64_t fourth) {
  _tile_loadd(0, sums, kSumsRowBytes);
  _tile_loadd(1, sums + second, kSumsRowBytes);
  _tile_loadd(2, sums + third, kSumsRowBytes);
  _tile_loadd(3, sums + fourth, kSumsRowBytes);
}

inline void store_sums(std::byte* sums, int64_t second, int64_t third, int64_t fourth) {
  _tile_stored(0, sums, kSumsRowBytes);
  _tile_stored(1, sums + second, kSumsRowBytes);
  _tile_stored(2, sums + third, kSumsRowBytes);
  _tile_stored(3, sums + fourth, kSumsRowBytes);
}

// A product of up to 256 rows and 4 panels.
class AmxProduct {
 public:
  explicit AmxProduct(const GemmTile& tile)
      : tile_(tile), whole_tiles_(tile.k / kTileK), has_tail_(tile.k % kTileK != 0) {
    if (has_tail_) copy_tails();
  }
  ~AmxProduct() { _tile_release(); }

  void run() {
    const int64_t tiles = whole_tiles_ + has_tail_;
    const bool is_lone = tiles <= kLoneBlockTiles || tile_.rows <= kAmxRowsPerBlock;
    const int64_t block = is_lone ? tiles : kBlockTiles;
    for (int64_t first = 0; first == 0 || first < tiles; first += block) {
      const int64_t end = first + block < tiles ? first + block : tiles;
      for (int panel = 0; panel < tile_.panels; ++panel) run_block(panel, first, end, end == tiles);
    }
  }

 private:
  struct Block {
    int panel;
    int64_t first, end;  // tiles of k
    bool is_last;
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
      __builtin_memcpy(out,
                       tile_.weight + panel * tile_.panel_bytes + whole_tiles_ * kTileStepBytes,
                       static_cast<size_t>(steps * kPanelStepBytes));
    }
  }

  void run_block(int panel, int64_t first, int64_t end, bool is_last) {
    const Block block{panel, first, end, is_last};
    const int64_t paired_rows = (tile_.rows + kTileRows - 1) / kAmxRowsPerBlock * kAmxRowsPerBlock;
    for (int half = 0; half < 2; ++half)
      for (int64_t row = 0; row < paired_rows; row += kAmxRowsPerBlock) run_half(block, row, half);
    if (paired_rows < tile_.rows) run_whole(block, paired_rows);
  }

  void run_half(const Block& block, int64_t row, int half) {
    constexpr int64_t kRight = 64, kBelow = kTileRows * kSumsRowBytes;
    const int64_t rows = left_from(row);
    configure(kTileRows, static_cast<int>(rows) - kTileRows);
    std::byte* sums = sums_of(block.panel, row) + half * 2 * kRight;
    memory_is_read();
    if (block.first == 0)
      zero_sums();
    else
      load_sums(sums, kRight, kBelow, kBelow + kRight);
    const int64_t offset = half * kHalfBytes;
    multiply_half(stretch(block, row, offset), ahead_of_half(block, row, half));
    if (block.is_last && has_tail_) multiply_half(tail(block.panel, row, offset), {});
    store_sums(sums, kRight, kBelow, kBelow + kRight);
    if (block.is_last && half == 1)
      finish_rows(tile_, block.panel, row, rows, reinterpret_cast<const float*>(sums - 2 * kRight));
  }

  void run_whole(const Block& block, int64_t row) {
    const int64_t rows = left_from(row);
    configure(static_cast<int>(rows), 0);
    std::byte* sums = sums_of(block.panel, row);
    memory_is_read();
    if (block.first == 0)
      zero_sums();
    else
      load_sums(sums, 64, 128, 192);
    Ahead ahead;
    const Stretch all = stretch(block, row, 0);
    if (row == 0) ahead = {.at = all.b + kStreamAheadBytes, .lines = kTileStepBytes / kLine};
    multiply_whole(all, ahead);
    if (block.is_last && has_tail_) multiply_whole(tail(block.panel, row, 0), {});
    store_sums(sums, 64, 128, 192);
    if (block.is_last)
      finish_rows(tile_, block.panel, row, rows, reinterpret_cast<const float*>(sums));
  }

  Stretch stretch(const Block& block, int64_t row, int64_t offset) const {
    const int64_t end = block.end < whole_tiles_ ? block.end : whole_tiles_;
    return {.a = tile_.a + row * tile_.a_row_bytes + block.first * kTileBytesOfA,
            .a_row_bytes = tile_.a_row_bytes,
            .b = panel_of(block.panel) + block.first * kTileStepBytes + offset,
            .tiles = end - block.first};
  }
  Stretch tail(int panel, int64_t row, int64_t offset) const {
    return {.a = reinterpret_cast<const std::byte*>(tail_a_ + row * kTileK),
            .a_row_bytes = kTileBytesOfA,
            .b = tail_b_ + panel * kTileStepBytes + offset,
            .tiles = 1};
  }

  // All halves of a block together bring the next block of weights, and the panels of a block
  // together the same rows' next block.
  Ahead ahead_of_half(const Block& block, int64_t row, int half) const {
    const int64_t pairs = (tile_.rows + kTileRows - 1) / kAmxRowsPerBlock;
    const int64_t index = half * pairs + row / kAmxRowsPerBlock;
    const int64_t tiles = block.end - block.first;
    const std::byte* next = block.panel + 1 < tile_.panels
                                ? panel_of(block.panel + 1) + block.first * kTileStepBytes
                                : panel_of(0) + block.end * kTileStepBytes;
    if (block.is_last && block.panel + 1 == tile_.panels) next = panel_of(tile_.panels);
    const auto lines = static_cast<int>((kTileStepBytes / kLine + 2 * pairs - 1) / (2 * pairs));
    Ahead ahead{.at = next + index * lines * tiles * kLine, .lines = lines};
    if (block.is_last) return ahead;
    const int rows = (kTileRows + tile_.panels - 1) / tile_.panels;
    ahead.a = tile_.a + (row + half * kTileRows + block.panel * rows) * tile_.a_row_bytes +
              block.end * kTileBytesOfA;
    ahead.a_row_bytes = tile_.a_row_bytes;
    ahead.a_rows = rows;
    return ahead;
  }

  // Of 32 rows, or of fewer at the end.
  int64_t left_from(int64_t row) const {
    const int64_t left = tile_.rows - row;
    return left < kAmxRowsPerBlock ? left : kAmxRowsPerBlock;
  }
  const std::byte* panel_of(int panel) const { return tile_.weight + panel * tile_.panel_bytes; }
  std::byte* sums_of(int panel, int64_t row) {
    return reinterpret_cast<std::byte*>(sums_) + (panel * kAmxMaxTileRows + row) * kSumsRowBytes;
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
  int64_t whole_tiles_;
  bool has_tail_;
  int upper_ = 0;
  int lower_ = 0;
  alignas(64) float sums_[kAmxMaxPanels * kAmxMaxTileRows * kPanelOutputs];
  alignas(64) uint16_t tail_a_[kAmxMaxTileRows * kTileK];
  alignas(64) std::byte tail_b_[kAmxMaxPanels * kTileStepBytes];
};

}  // namespace

void gemm_tile_bf16_amx(const GemmTile& tile) { AmxProduct(tile).run(); }

}  // namespace kvasir::kernels

#pragma once
// What stands between the dispatch (gemm.cpp, gemm_pack.cpp) and the code of one instruction set:
// plain structs and function names, no templates and no inline functions, because the files that
// implement them are compiled for instructions that the CPU may lack.
//
// Packed layout, the same for every instruction set:
//   [panels][steps][64 outputs] of 4 bytes,
// where a step is one k for f32 weights and a pair of neighbouring k for bf16 weights (the order
// that the bf16 dot product instruction wants; an odd k is padded with zero, as is n to 64).
// kGatePair: the first 32 outputs of a panel are rows of gate, the others the same rows of up.

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/gemm/gemm.h"

namespace kvasir::kernels {

inline constexpr int kPanelOutputs = 64;
inline constexpr int kPairOutputs = kPanelOutputs / 2;  // outputs of gate, or of up, in a panel
inline constexpr int kStepBytes = 4;                    // of one row of A, or of one output
inline constexpr int kPanelStepBytes = kPanelOutputs * kStepBytes;

// Of the vector code:
inline constexpr int kRowsPerBlock = 6;  // rows whose sums are in registers together
inline constexpr int kMaxTileRows = 42 * kRowsPerBlock;  // bounds the partial sums on the stack
// Of the tile code:
inline constexpr int kAmxRowsPerBlock = 32;
inline constexpr int kAmxMaxTileRows = 8 * kAmxRowsPerBlock;
inline constexpr int kAmxMaxPanels = 4;

// Some rows of A times some neighbouring panels.
struct GemmTile {
  const std::byte* a = nullptr;  // first row
  int64_t a_row_bytes = 0;
  int64_t rows = 0;
  int64_t k = 0;
  const std::byte* weight = nullptr;  // first panel
  int panels = 0;
  int64_t panel_bytes = 0;
  const float* bias = nullptr;     // of the first panel's first output, or null
  const float* up_bias = nullptr;  // kSiluMul: of the first output of up; null where bias is
  std::byte* c = nullptr;          // first row, the first panel's first output
  int64_t c_row_bytes = 0;
  int64_t columns = 0;  // outputs to store: up to 64 a panel, for kSiluMul up to 32
  Epilogue epilogue = Epilogue::kStore;
  DType c_dtype = DType::kF32;
};

using GemmTileFunction = void (*)(const GemmTile& tile);

// The code of one instruction set, and how a product is best cut for it.
struct GemmCode {
  GemmTileFunction run = nullptr;
  int row_block = kRowsPerBlock;  // rows that go through the registers together
  int max_rows = kMaxTileRows;    // of one call; a multiple of row_block
  int max_panels = 1;             // of one call
  // Up to this many row blocks are a stream over the weights: reading them takes longer than the
  // arithmetic.
  int stream_blocks = 3;
  // What it costs to bring a panel, or a block of rows, into the L2 cache for a task, in units of
  // the arithmetic of one row block and one panel.
  double panel_cost = 0.15;
  double rows_cost = 0.02;
};

void gemm_tile_bf16_ref(const GemmTile& tile);
void gemm_tile_f32_ref(const GemmTile& tile);
void gemm_tile_bf16_avx2(const GemmTile& tile);
void gemm_tile_f32_avx2(const GemmTile& tile);
void gemm_tile_bf16_avx512(const GemmTile& tile);
void gemm_tile_f32_avx512(const GemmTile& tile);
void gemm_tile_bf16_avx512bf16(const GemmTile& tile);
void gemm_tile_bf16_amx(const GemmTile& tile);

// Packs up to 64 source rows, `rows[i]` null for a row of zeros, into one panel.
struct PackPanel {
  const std::byte* rows[kPanelOutputs] = {};
  DType source = DType::kBF16;
  DType target = DType::kBF16;
  int64_t k = 0;
  bool streaming = false;  // write past the caches: the packed weight is larger than they are
  std::byte* panel = nullptr;
};

using PackFunction = void (*)(const PackPanel& args);

void pack_panel_ref(const PackPanel& args);
void pack_panel_avx2(const PackPanel& args);
void pack_panel_avx512(const PackPanel& args);

}  // namespace kvasir::kernels

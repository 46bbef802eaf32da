// The scalar definition of right: products of the stored values, summed in f64 over ascending k,
// rounded to f32 once, then the epilogue in f32.

#include <cmath>
#include <cstring>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

template <class T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

void finish_row(const GemmTile& tile, const double* sums, std::byte* c) {
  for (int64_t j = 0; j < tile.columns; ++j) {
    float value = static_cast<float>(sums[j]);
    if (tile.bias) value += tile.bias[j];
    if (tile.epilogue == Epilogue::kSiluMul) {
      float up = static_cast<float>(sums[kPairOutputs + j]);
      if (tile.bias) up += tile.up_bias[j];
      value = value / (1 + std::exp(-value)) * up;
    }
    if (tile.epilogue == Epilogue::kAdd) value += read<float>(c + j * sizeof(float));
    if (tile.c_dtype == DType::kF32) {
      std::memcpy(c + j * sizeof(float), &value, sizeof(value));
      continue;
    }
    const bf16_t rounded = f32_to_bf16(value);
    std::memcpy(c + j * sizeof(bf16_t), &rounded, sizeof(rounded));
  }
}

}  // namespace

void gemm_tile_bf16_ref(const GemmTile& tile) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    double sums[kPanelOutputs] = {};
    const std::byte* a = tile.a + row * tile.a_row_bytes;
    for (int64_t i = 0; i < tile.k; ++i) {
      const double x = bf16_to_f32(read<bf16_t>(a + i * sizeof(bf16_t)));
      const std::byte* b =
          tile.weight + i / 2 * kPanelStepBytes + i % 2 * static_cast<int64_t>(sizeof(bf16_t));
      for (int j = 0; j < kPanelOutputs; ++j)
        sums[j] += x * bf16_to_f32(read<bf16_t>(b + j * kStepBytes));
    }
    finish_row(tile, sums, tile.c + row * tile.c_row_bytes);
  }
}

void gemm_tile_f32_ref(const GemmTile& tile) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    double sums[kPanelOutputs] = {};
    const std::byte* a = tile.a + row * tile.a_row_bytes;
    for (int64_t i = 0; i < tile.k; ++i) {
      const double x = read<float>(a + i * sizeof(float));
      const std::byte* b = tile.weight + i * kPanelStepBytes;
      for (int j = 0; j < kPanelOutputs; ++j) sums[j] += x * read<float>(b + j * kStepBytes);
    }
    finish_row(tile, sums, tile.c + row * tile.c_row_bytes);
  }
}

}  // namespace kvasir::kernels

// Packing as 8 x 8 transpositions of 32-bit lanes: 8 rows of 8 steps each to 8 steps of 8 outputs.

#include <immintrin.h>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

#include "kernels/simd_avx2.inc"

template <DType kSource>
__m256 load_f32(const std::byte* p) {
  if constexpr (kSource == DType::kF32) return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  if constexpr (kSource == DType::kF16) return _mm256_cvtph_ps(half);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

// 8 steps of a source row in the packed dtype.
template <DType kSource, DType kTarget>
__m256i load_steps(const std::byte* p) {
  if constexpr (kSource == kTarget) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  } else if constexpr (kTarget == DType::kF32) {
    return _mm256_castps_si256(load_f32<kSource>(p));
  } else {
    constexpr int kHalfBytes = kWidth * (kSource == DType::kF32 ? 4 : 2);
    return _mm256_set_m128i(to_bf16(load_f32<kSource>(p + kHalfBytes)),
                            to_bf16(load_f32<kSource>(p)));
  }
}

inline void transpose(__m256i (&x)[kWidth]) {
  __m256i y[kWidth];
#pragma GCC unroll 8
  for (int i = 0; i < kWidth; i += 2) {
    y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kWidth; i += 4) {
    x[i] = _mm256_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm256_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm256_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm256_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 4; ++j) {
    y[j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x20);
    y[4 + j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x31);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kWidth; ++j) x[j] = y[j];
}

template <DType kSource, DType kTarget>
void pack(const PackPanel& args) {
  constexpr int kSourceBytes = kSource == DType::kF32 ? 4 : 2;
  constexpr int kPerStep = kTarget == DType::kBF16 ? 2 : 1;
  constexpr int kTileK = kWidth * kPerStep;
  constexpr int kTileBytes = kTileK * kSourceBytes;
  const int64_t whole = args.k / kTileK * kTileK;
  for (int64_t i = 0; i < args.k; i += kTileK) {
    const int64_t left = args.k - i;
    const int count = left < kTileK ? static_cast<int>((left + kPerStep - 1) / kPerStep) : kWidth;
    for (int group = 0; group < kPanelOutputs; group += kWidth) {
      __m256i x[kWidth];
#pragma GCC unroll 8
      for (int r = 0; r < kWidth; ++r) {
        const std::byte* row = args.rows[group + r];
        if (!row) {
          x[r] = _mm256_setzero_si256();
        } else if (i < whole) {
          const std::byte* p = row + i * kSourceBytes;
          _mm_prefetch(reinterpret_cast<const char*>(p + 512), _MM_HINT_T0);
          x[r] = load_steps<kSource, kTarget>(p);
        } else {
          alignas(32) std::byte rest[kTileBytes] = {};
          __builtin_memcpy(rest, row + i * kSourceBytes, static_cast<size_t>(left * kSourceBytes));
          x[r] = load_steps<kSource, kTarget>(rest);
        }
      }
      transpose(x);
      std::byte* out = args.panel + i / kPerStep * kPanelStepBytes + group * kStepBytes;
      for (int step = 0; step < count; ++step) {
        auto* line = reinterpret_cast<__m256i*>(out + step * kPanelStepBytes);
        if (args.streaming)
          _mm256_stream_si256(line, x[step]);
        else
          _mm256_storeu_si256(line, x[step]);
      }
    }
  }
  if (args.streaming) _mm_sfence();
}

template <DType kTarget>
void pack_to(const PackPanel& args) {
  switch (args.source) {
    case DType::kF32:
      return pack<DType::kF32, kTarget>(args);
    case DType::kBF16:
      return pack<DType::kBF16, kTarget>(args);
    case DType::kF16:
      return pack<DType::kF16, kTarget>(args);
  }
}

}  // namespace

void pack_panel_avx2(const PackPanel& args) {
  if (args.target == DType::kF32)
    pack_to<DType::kF32>(args);
  else
    pack_to<DType::kBF16>(args);
}

}  // namespace kvasir::kernels

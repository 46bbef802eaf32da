// Packing as 16 x 16 transpositions of 32-bit lanes: 16 rows of 16 steps each to 16 steps of 16
// outputs.

#include <immintrin.h>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

constexpr int kLanes = 16;

__m512i f32_to_bf16_lanes(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16);
}

template <DType kSource>
__m512 load_f32(const std::byte* p) {
  if constexpr (kSource == DType::kF32) return _mm512_loadu_ps(p);
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  if constexpr (kSource == DType::kF16) return _mm512_cvtph_ps(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// 16 steps of a source row in the packed dtype.
template <DType kSource, DType kTarget>
__m512i load_steps(const std::byte* p) {
  if constexpr (kSource == kTarget) {
    return _mm512_loadu_si512(p);
  } else if constexpr (kTarget == DType::kF32) {
    return _mm512_castps_si512(load_f32<kSource>(p));
  } else {
    constexpr int kHalfBytes = kLanes * (kSource == DType::kF32 ? 4 : 2);
    const __m512i low = f32_to_bf16_lanes(load_f32<kSource>(p));
    const __m512i high = f32_to_bf16_lanes(load_f32<kSource>(p + kHalfBytes));
    // 32 lanes of 16 bits, in order.
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)),
                              _mm512_cvtepi32_epi16(high), 1);
  }
}

inline void transpose(__m512i (&x)[kLanes]) {
  __m512i y[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  // x[4 g + j]: rows 4 g .. 4 g + 3 of columns j, j + 4, j + 8, j + 12, a 128-bit lane each.
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j) {
    y[j] = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88);
    y[4 + j] = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
    y[8 + j] = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);
    y[12 + j] = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
  }
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j) {
    x[j] = _mm512_shuffle_i32x4(y[j], y[8 + j], 0x88);
    x[8 + j] = _mm512_shuffle_i32x4(y[j], y[8 + j], 0xdd);
    x[4 + j] = _mm512_shuffle_i32x4(y[4 + j], y[12 + j], 0x88);
    x[12 + j] = _mm512_shuffle_i32x4(y[4 + j], y[12 + j], 0xdd);
  }
}

template <DType kSource, DType kTarget, bool kStreaming>
void pack(const PackPanel& args) {
  constexpr int kSourceBytes = kSource == DType::kF32 ? 4 : 2;
  constexpr int kPerStep = kTarget == DType::kBF16 ? 2 : 1;
  constexpr int kTileK = kLanes * kPerStep;          // elements of a row in one transposition
  constexpr int kTileBytes = kTileK * kSourceBytes;  // of source
  const int64_t whole = args.k / kTileK * kTileK;
  for (int64_t i = 0; i < args.k; i += kTileK) {
    const int64_t left = args.k - i;
    const int count = left < kTileK ? static_cast<int>((left + kPerStep - 1) / kPerStep) : kLanes;
    for (int group = 0; group < kPanelOutputs; group += kLanes) {
      __m512i x[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) {
        const std::byte* row = args.rows[group + r];
        if (!row) {
          x[r] = _mm512_setzero_si512();
        } else if (i < whole) {
          const std::byte* p = row + i * kSourceBytes;
          _mm_prefetch(reinterpret_cast<const char*>(p + 512), _MM_HINT_T0);
          x[r] = load_steps<kSource, kTarget>(p);
        } else {
          alignas(64) std::byte rest[kTileBytes] = {};
          __builtin_memcpy(rest, row + i * kSourceBytes, static_cast<size_t>(left * kSourceBytes));
          x[r] = load_steps<kSource, kTarget>(rest);
        }
      }
      transpose(x);
      std::byte* out = args.panel + i / kPerStep * kPanelStepBytes + group * kStepBytes;
      for (int step = 0; step < count; ++step) {
        auto* line = reinterpret_cast<__m512i*>(out + step * kPanelStepBytes);
        if constexpr (kStreaming)
          _mm512_stream_si512(line, x[step]);
        else
          _mm512_storeu_si512(line, x[step]);
      }
    }
  }
  if constexpr (kStreaming) _mm_sfence();
}

template <DType kSource, DType kTarget>
void pack_as(const PackPanel& args) {
  if (args.streaming)
    pack<kSource, kTarget, true>(args);
  else
    pack<kSource, kTarget, false>(args);
}

template <DType kTarget>
void pack_to(const PackPanel& args) {
  switch (args.source) {
    case DType::kF32:
      return pack_as<DType::kF32, kTarget>(args);
    case DType::kBF16:
      return pack_as<DType::kBF16, kTarget>(args);
    case DType::kF16:
      return pack_as<DType::kF16, kTarget>(args);
  }
}

}  // namespace

void pack_panel_avx512(const PackPanel& args) {
  if (args.target == DType::kF32)
    pack_to<DType::kF32>(args);
  else
    pack_to<DType::kBF16>(args);
}

}  // namespace kvasir::kernels

// f32 weights, and bf16 weights widened in registers, with 256-bit multiply-adds: 6 x 16 outputs in
// 12 of the 16 registers.

#include <immintrin.h>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

#include "kernels/simd_avx2.inc"

constexpr int kVectorsFor[kRowsPerBlock + 1] = {0, 8, 4, 4, 2, 2, 2};

// The bf16 of one half (0 low, 1 high) of each lane as f32.
template <int kPhase>
inline Vec widen(__m256i pairs) {
  return _mm256_castsi256_ps(kPhase == 0 ? _mm256_slli_epi32(pairs, 16)
                                         : _mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
}

struct WidenOp {
  static constexpr int kPhases = 2;
  static constexpr bool kPairs = true;
  using Operand = Vec;
  template <int kPhase>
  static Operand load_a(const std::byte* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return widen<kPhase>(_mm256_set1_epi32(pair));
  }
  template <int kPhase>
  static Operand load_b(const std::byte* p) {
    return widen<kPhase>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec multiply_add(Vec sum, Operand a, Operand b) { return fma(a, b, sum); }
};

struct FloatOp {
  static constexpr int kPhases = 1;
  static constexpr bool kPairs = false;
  using Operand = Vec;
  template <int>
  static Operand load_a(const std::byte* p) {
    float x;
    __builtin_memcpy(&x, p, sizeof(x));
    return set1(x);
  }
  template <int>
  static Operand load_b(const std::byte* p) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  }
  static Vec multiply_add(Vec sum, Operand a, Operand b) { return fma(a, b, sum); }
};

#include "kernels/gemm/gemm_finish.inc"
#include "kernels/gemm/gemm_kernel.inc"

}  // namespace

void gemm_tile_bf16_avx2(const GemmTile& tile) { run_tile<WidenOp>(tile); }
void gemm_tile_f32_avx2(const GemmTile& tile) { run_tile<FloatOp>(tile); }

}  // namespace kvasir::kernels

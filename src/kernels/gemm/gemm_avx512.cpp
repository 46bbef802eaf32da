// f32 weights, and bf16 weights widened in registers, with 512-bit multiply-adds.

#include <immintrin.h>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

#include "kernels/simd_avx512.inc"

constexpr int kVectorsFor[kRowsPerBlock + 1] = {0, 4, 4, 4, 4, 4, 4};

// The bf16 of one half (0 low, 1 high) of each lane as f32.
template <int kPhase>
inline Vec widen(__m512i pairs) {
  return _mm512_castsi512_ps(kPhase == 0 ? _mm512_slli_epi32(pairs, 16)
                                         : _mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

struct WidenOp {
  static constexpr int kPhases = 2;
  static constexpr bool kPairs = true;
  using Operand = Vec;
  template <int kPhase>
  static Operand load_a(const std::byte* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return widen<kPhase>(_mm512_set1_epi32(pair));
  }
  template <int kPhase>
  static Operand load_b(const std::byte* p) {
    return widen<kPhase>(_mm512_loadu_si512(p));
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
    return _mm512_loadu_ps(p);
  }
  static Vec multiply_add(Vec sum, Operand a, Operand b) { return fma(a, b, sum); }
};

#include "kernels/gemm/gemm_finish.inc"
#include "kernels/gemm/gemm_kernel.inc"

}  // namespace

void gemm_tile_bf16_avx512(const GemmTile& tile) { run_tile<WidenOp>(tile); }
void gemm_tile_f32_avx512(const GemmTile& tile) { run_tile<FloatOp>(tile); }

}  // namespace kvasir::kernels

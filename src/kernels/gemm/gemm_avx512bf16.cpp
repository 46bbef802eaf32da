// bf16 weights where the CPU multiplies bf16: 6 x 64 outputs in 24 registers, one dot product of
// pairs each a step.

#include <immintrin.h>

#include "kernels/gemm/gemm_tile.h"

namespace kvasir::kernels {
namespace {

#include "kernels/simd_avx512.inc"

constexpr int kVectorsFor[kRowsPerBlock + 1] = {0, 4, 4, 4, 4, 4, 4};

struct PairsOp {
  static constexpr int kPhases = 1;
  static constexpr bool kPairs = true;
  using Operand = __m512i;
  template <int>
  static Operand load_a(const std::byte* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  template <int>
  static Operand load_b(const std::byte* p) {
    return _mm512_loadu_si512(p);
  }
  static Vec multiply_add(Vec sum, Operand a, Operand b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

#include "kernels/gemm/gemm_finish.inc"
#include "kernels/gemm/gemm_kernel.inc"

}  // namespace

void gemm_tile_bf16_avx512bf16(const GemmTile& tile) { run_tile<PairsOp>(tile); }

}  // namespace kvasir::kernels

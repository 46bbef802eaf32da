#include <immintrin.h>

#include "kernels/vertical_slash/vertical_slash_range.h"

namespace kvasir::kernels {
namespace {

// clang-format off: the second uses the first
#include "kernels/simd_avx512.inc"
#include "kernels/vertical_slash/vertical_slash_kernel.inc"
// clang-format on

}  // namespace

void estimate_maxima_avx512(const EstimateRange& range, float* maxima, float* sums) {
  estimate_maxima(range, maxima, sums);
}

void estimate_shares_avx512(const EstimateRange& range, const EstimateSums& sums) {
  estimate_shares(range, sums);
}

}  // namespace kvasir::kernels

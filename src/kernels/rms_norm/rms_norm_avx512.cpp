#include <immintrin.h>

#include "kernels/rms_norm/rms_norm_rows.h"

namespace kvasir::kernels {
namespace {

// clang-format off: the second uses the first
#include "kernels/simd_avx512.inc"
#include "kernels/rms_norm/rms_norm_kernel.inc"
// clang-format on

}  // namespace

void rms_norm_rows_avx512(const RmsNormArgs& args, int64_t begin, int64_t end) {
  norm_rows(args, begin, end);
}

}  // namespace kvasir::kernels

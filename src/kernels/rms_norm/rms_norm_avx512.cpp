#include <immintrin.h>

#include "kernels/rms_norm/rms_norm_rows.h"

namespace kvasir::kernels {
namespace {

#include "kernels/rms_norm/rms_norm_kernel.inc"
#include "kernels/simd_avx512.inc"

}  // namespace

void rms_norm_rows_avx512(const RmsNormArgs& args, int64_t begin, int64_t end) {
  norm_rows(args, begin, end);
}

}  // namespace kvasir::kernels

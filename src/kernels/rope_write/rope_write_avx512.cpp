#include <immintrin.h>

#include "kernels/rope_write/rope_write_rows.h"

namespace kvasir::kernels {
namespace {

// clang-format off: the second uses the first
#include "kernels/simd_avx512.inc"
#include "kernels/rope_write/rope_write_kernel.inc"
// clang-format on

}  // namespace

void rope_write_row_avx512(const RopeWriteRow& row) { write_row(row); }

}  // namespace kvasir::kernels

#include <immintrin.h>

#include "kernels/rope_write/rope_write_rows.h"

namespace kvasir::kernels {
namespace {

#include "kernels/rope_write/rope_write_kernel.inc"
#include "kernels/simd_avx2.inc"

}  // namespace

void rope_write_row_avx2(const RopeWriteRow& row) { write_row(row); }

}  // namespace kvasir::kernels

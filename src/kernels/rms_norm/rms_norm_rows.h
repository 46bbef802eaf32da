#pragma once
// Rows [begin, end) of a norm, per instruction set. Plain declarations: see gemm_tile.h.

#include "kernels/rms_norm/rms_norm.h"

namespace kvasir::kernels {

using RmsNormFunction = void (*)(const RmsNormArgs& args, int64_t begin, int64_t end);

void rms_norm_rows_ref(const RmsNormArgs& args, int64_t begin, int64_t end);
void rms_norm_rows_avx2(const RmsNormArgs& args, int64_t begin, int64_t end);
void rms_norm_rows_avx512(const RmsNormArgs& args, int64_t begin, int64_t end);

}  // namespace kvasir::kernels

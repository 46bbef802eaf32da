#pragma once
// y = x / sqrt(mean(x^2) + eps) * weight, row by row; or y += that.

#include <cstdint>

#include "base/dtype.h"
#include "kernels/context.h"

namespace kvasir::kernels {

struct RmsNormArgs {
  const float* x = nullptr;       // [rows, size], dense
  const float* weight = nullptr;  // [size]
  void* y = nullptr;              // [rows, size] in y_dtype
  DType y_dtype = DType::kBF16;   // kF32 or kBF16
  int64_t y_row_stride = 0;       // elements
  int64_t rows = 0;
  int64_t size = 0;
  float eps = 0;
  // Gather: y[i] is the norm of x[row_index[i]]; null = identity.
  const int32_t* row_index = nullptr;
  bool accumulate = false;  // y += the norm; y in f32 only
};

void run_rms_norm(const CpuContext& context, const RmsNormArgs& args, Isa at_most = kEveryIsa);
void run_rms_norm_reference(const CpuContext& context, const RmsNormArgs& args);

}  // namespace kvasir::kernels

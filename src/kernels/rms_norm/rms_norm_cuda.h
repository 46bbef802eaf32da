#pragma once
// y = x / sqrt(mean(x^2) + eps) * weight, row by row, on a GPU; or y += that. See rms_norm.h.

#include <cstdint>

#include "base/dtype.h"
#include "cuda/context.h"

namespace kvasir::kernels {

struct CudaRmsNormArgs {
  const float* x = nullptr;       // [*, size], dense
  const float* weight = nullptr;  // [size]
  void* y = nullptr;              // [rows, size] in y_dtype, dense
  DType y_dtype = DType::kBF16;   // kF32, kBF16 or kF16
  int64_t rows = 0;
  int64_t size = 0;  // a multiple of 4
  float eps = 0;
  const int32_t* row_index =
      nullptr;  // device: y[i] is the norm of x[row_index[i]]; null = identity
  bool accumulate = false;             // y += the norm; y in f32 only
};

void run_rms_norm(const cuda::Context& context, const CudaRmsNormArgs& args);

}  // namespace kvasir::kernels

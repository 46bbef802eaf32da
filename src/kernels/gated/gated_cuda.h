#pragma once
// y = silu(gate) * up, on a GPU: after a matrix product that has no such epilogue.

#include <cstdint>

#include "base/dtype.h"
#include "cuda/context.h"

namespace kvasir::kernels {

struct GatedArgs {
  const void* gate_up = nullptr;  // [rows, 2 * size] in dtype, dense: gate, then up
  const float* bias = nullptr;    // [2 * size] added before, or null
  void* y = nullptr;              // [rows, size] in dtype, dense
  DType dtype = DType::kBF16;     // kBF16 or kF16
  int64_t rows = 0;
  int64_t size = 0;  // a multiple of 8
};

void run_gated(const cuda::Context& context, const GatedArgs& args);

}  // namespace kvasir::kernels

#pragma once
// The gradient of y = silu(gate) * up, on a GPU.

#include <cstdint>

#include "cuda/context.h"

namespace kvasir::kernels {

struct GatedBackwardArgs {
  const void* d_y = nullptr;      // [rows, size] bf16, dense
  const void* gate_up = nullptr;  // [rows, 2 * size] bf16, dense: gate, then up
  void* d_gate_up = nullptr;      // the same
  int64_t rows = 0;
  int64_t size = 0;  // a multiple of 8
};

void run_gated_backward(const cuda::Context& context, const GatedBackwardArgs& args);

}  // namespace kvasir::kernels

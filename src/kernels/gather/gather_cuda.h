#pragma once
// y[i] = x[row_index[i]], whole rows of any type, on a GPU.

#include <cstdint>

#include "cuda/context.h"

namespace kvasir::kernels {

struct GatherArgs {
  const void* x = nullptr;             // [*, row_bytes], dense
  void* y = nullptr;                   // [rows, row_bytes], dense; does not overlap x
  int64_t row_bytes = 0;               // a multiple of 16
  const int32_t* row_index = nullptr;  // [rows], device
  int64_t rows = 0;
};

void run_gather(const cuda::Context& context, const GatherArgs& args);

}  // namespace kvasir::kernels

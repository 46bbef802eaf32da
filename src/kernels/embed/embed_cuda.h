#pragma once
// Rows of the embedding table as f32, on a GPU.

#include <cstdint>

#include "base/dtype.h"
#include "cuda/context.h"

namespace kvasir::kernels {

struct EmbedArgs {
  const void* table = nullptr;      // [vocab, size] in dtype
  DType dtype = DType::kBF16;       // kBF16 or kF16
  const int32_t* tokens = nullptr;  // [rows], device
  int64_t rows = 0;
  int64_t size = 0;      // a multiple of 8
  float* out = nullptr;  // [rows, size]
};

void run_embed(const cuda::Context& context, const EmbedArgs& args);

}  // namespace kvasir::kernels

#pragma once
// C = A * W^T (+ bias) for few rows of A (decode): a stream over the weights as they lie on disk.
// Bound by bandwidth: n * k * 2 bytes.
//
// Every output is summed in f32 by one chain of operations whatever the number of rows: a row's
// bits do not depend on its batch.

#include <cstdint>

#include "base/dtype.h"
#include "cuda/context.h"
#include "kernels/gemm/gemm.h"  // Epilogue

namespace kvasir::kernels {

inline constexpr int64_t kSkinnyRows = 32;  // the most rows of A in one call

struct SkinnyGemmArgs {
  DType dtype = DType::kBF16;  // of A and W: kBF16 or kF16
  const void* a = nullptr;     // [m, k]
  int64_t a_row_stride = 0;    // elements; a multiple of 8
  int64_t m = 0;               // 1..kSkinnyRows
  const void* weight =
      nullptr;  // [n, k] dense, 16-byte aligned; kSiluMul: gate's n/2 rows, then up's
  int64_t n = 0;
  int64_t k = 0;                // a multiple of 8
  const float* bias = nullptr;  // [n] or null
  Epilogue epilogue = Epilogue::kStore;
  void* c = nullptr;            // [m, n] (kSiluMul: [m, n/2]) in c_dtype
  DType c_dtype = DType::kF32;  // kF32, kBF16 or kF16; kAdd needs kF32
  int64_t c_row_stride = 0;     // elements
};

void run_skinny_gemm(const cuda::Context& context, const SkinnyGemmArgs& args);

}  // namespace kvasir::kernels

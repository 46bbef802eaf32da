#pragma once
// C = A * W^T (+ bias) for many rows of A (prefill), by NVIDIA's cuBLASLt, which is loaded when the
// first object is made: programs that never multiply on a GPU do not need it. Bound by arithmetic:
// 2 * m * n * k flops.
//
// A row's bits may depend on m: the library chooses another kernel for another size.

#include <cstdint>
#include <memory>
#include <string>

#include "base/dtype.h"
#include "cuda/context.h"
#include "kernels/gemm/gemm.h"  // Epilogue

namespace kvasir::kernels {

struct WideGemmArgs {
  DType dtype = DType::kBF16;    // of A, W and the bias: kBF16 or kF16
  const void* a = nullptr;       // [m, k]
  int64_t a_row_stride = 0;      // elements; a multiple of 8
  int64_t m = 0;                 // may be 0
  const void* weight = nullptr;  // [n, k] dense, 16-byte aligned
  int64_t n = 0;
  int64_t k = 0;                         // a multiple of 8
  const void* bias = nullptr;            // [n] in c_dtype, or null
  Epilogue epilogue = Epilogue::kStore;  // kStore, kAdd
  void* c = nullptr;                     // [m, n] in c_dtype
  DType c_dtype = DType::kF32;           // kF32 or dtype; kAdd needs kF32
  int64_t c_row_stride = 0;              // elements
};

class WideGemm {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  // `workspace`: device memory of kWorkspaceBytes, used by one product at a time. Throws kNotFound
  // where cuBLASLt cannot be loaded, with where it was looked for.
  explicit WideGemm(std::byte* workspace);
  ~WideGemm();
  // Can be captured in a CUDA graph. Throws kInternal where the library refuses.
  void run(const cuda::Context& context, const WideGemmArgs& args);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir::kernels

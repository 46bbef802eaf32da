#pragma once
// Descriptions of a KV pool for the copy engine (TMA).

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "cuda/check.h"
#include "kernels/page.h"

namespace kvasir::kernels::sm90 {

// The pool as a tensor of kRank dimensions, the innermost of 16-bit elements in a row, cut into
// boxes that arrive with the 128-byte swizzle. What lies outside is zeros.
template <int kRank>
CUtensorMap tensor_map(const PagePool& pages, const cuuint64_t (&sizes)[kRank],
                       const cuuint64_t (&stride_bytes)[kRank - 1],
                       const cuuint32_t (&box)[kRank]) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    KVASIR_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                 cudaEnableDefault, &found));
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  cuuint32_t steps[kRank];
  for (cuuint32_t& step : steps) step = 1;
  CUtensorMap map;
  const CUresult status =
      encode(&map,
             pages.dtype == DType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                         : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
             kRank, pages.base, sizes, stride_bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  KVASIR_CUDA(status == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue);
  return map;
}

}  // namespace kvasir::kernels::sm90

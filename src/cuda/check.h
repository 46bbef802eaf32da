#pragma once
// The one wrapper of CUDA calls: KVASIR_CUDA(cudaMalloc(&p, n)) throws where the call fails, with
// the call, CUDA's words and the place.

#include <cuda_runtime_api.h>

#include <string>

#include "kvasir/error.h"

namespace kvasir::cuda {

[[noreturn]] inline void failed(cudaError_t status, const char* call, const char* file, int line) {
  const ErrorCode code =
      status == cudaErrorMemoryAllocation ? ErrorCode::kResourceExhausted : ErrorCode::kInternal;
  throw Error(code, std::string(call) + ": " + cudaGetErrorString(status),
              std::string(file) + ":" + std::to_string(line));
}

}  // namespace kvasir::cuda

#define KVASIR_CUDA(call)                                               \
  do {                                                                  \
    const cudaError_t kvasir_status = (call);                           \
    if (kvasir_status != cudaSuccess)                                   \
      ::kvasir::cuda::failed(kvasir_status, #call, __FILE__, __LINE__); \
  } while (false)

// After a launch: whether it was accepted.
#define KVASIR_CUDA_LAUNCHED() KVASIR_CUDA(cudaGetLastError())

#pragma once
// What a CUDA kernel runs on: the counterpart of kernels::CpuContext.
//
// A kernel is launched on `stream` and returns at once. It never allocates, synchronises or logs,
// its grid depends on shapes alone (the caller's upper bounds), and what may change from one run to
// the next lies in device memory: every launch can be captured in a CUDA graph.

#include <cuda_runtime_api.h>

namespace kvasir::cuda {

struct Context {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
  int compute_capability = 0;  // 90 = 9.0
  // Kernels are launched so that they may begin while the one before them on the stream ends
  // (programmatic dependent launch, from 9.0 on); each waits for its inputs itself.
  bool overlap = false;
};

}  // namespace kvasir::cuda

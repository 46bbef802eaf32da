#pragma once
// Times between places on a stream. A mark is an event that is recorded; nothing waits for it, and
// times are read when the stream has been waited for anyway.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "cuda/check.h"

namespace kvasir::cuda {

class Timeline {
 public:
  Timeline() = default;
  ~Timeline() {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  // Forgets the marks; events are used again.
  void clear() { used_ = 0; }
  size_t mark(cudaStream_t stream) {
    if (used_ == events_.size()) {
      cudaEvent_t event = nullptr;
      KVASIR_CUDA(cudaEventCreate(&event));
      events_.push_back(event);
    }
    KVASIR_CUDA(cudaEventRecord(events_[used_], stream));
    return used_++;
  }
  double seconds(size_t from, size_t to) const {
    float milliseconds = 0;
    KVASIR_CUDA(cudaEventElapsedTime(&milliseconds, events_.at(from), events_.at(to)));
    return double{milliseconds} * 1e-3;
  }

 private:
  std::vector<cudaEvent_t> events_;
  size_t used_ = 0;
};

}  // namespace kvasir::cuda

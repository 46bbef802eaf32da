#pragma once
// What a CPU kernel runs on: the counterpart of a CUDA stream.

#include "base/cancel.h"
#include "base/cpu_info.h"
#include "base/thread_pool.h"

namespace kvasir::kernels {

struct CpuContext {
  ThreadPool& pool;
  // Polled between tiles; a kernel that finds it set returns early and leaves its output
  // unspecified.
  const CancelToken* cancel = nullptr;

  bool cancelled() const { return cancel && cancel->cancelled(); }
};

}  // namespace kvasir::kernels

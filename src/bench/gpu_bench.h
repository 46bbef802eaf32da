#pragma once
// The measurements on a GPU: `kvasir bench prefill | decode | load --device cuda`.

#include <iosfwd>

#include "base/thread_pool.h"
#include "bench/harness.h"
#include "cuda/device.h"

namespace kvasir::bench {

// `device` is current on the calling thread. Throws Error; kUnsupported where this build has no
// CUDA.
Report run_gpu_bench(const BenchOptions& options, const cuda::Device& device, ThreadPool& pool,
                     std::ostream& progress);

}  // namespace kvasir::bench

#pragma once
// Timing on a GPU: by events around work that is queued on one stream.

#include <functional>

#include "bench/harness.h"
#include "cuda/context.h"

namespace kvasir::bench {

// Seconds of one `body` on `stream`: `batch` of them are queued between two events, after a
// warm-up; median of `repetitions`.
Timing measure_on_gpu(cudaStream_t stream, int repetitions, int batch,
                      const std::function<void()>& body);

// "1980 MHz, 2619 MHz memory, 612 W": clocks and power right now, as nvidia-smi tells them; empty
// where it is not there.
std::string clocks_and_power(int device);

}  // namespace kvasir::bench

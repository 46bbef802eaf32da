#include "kernels/cuda_device.cuh"
#include "kernels/late_copy.h"

namespace kvasir::testing {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kDelayCycles = 30'000;

__global__ void late_copy(int4* to, const int4* from, size_t count) {
  kernels::wait_for_inputs();
  kernels::let_next_begin();
  const int64_t begin = clock64();
  while (clock64() - begin < kDelayCycles) {
  }
  for (size_t i = threadIdx.x; i < count; i += kThreads) to[i] = from[i];
}

}  // namespace

void launch_late_copy(const cuda::Context& context, void* to, const void* from, size_t bytes) {
  kernels::launch(context, late_copy, 1, kThreads, 0, static_cast<int4*>(to),
                  static_cast<const int4*>(from), bytes / sizeof(int4));
}

}  // namespace kvasir::testing

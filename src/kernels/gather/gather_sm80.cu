#include "kernels/cuda_device.cuh"
#include "kernels/gather/gather_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) gather(GatherArgs args) {
  wait_for_inputs();
  let_next_begin();
  const int64_t size = args.row_bytes / 16;
  const auto* x = static_cast<const uint4*>(args.x) + args.row_index[blockIdx.x] * size;
  auto* y = static_cast<uint4*>(args.y) + blockIdx.x * size;
  for (int64_t i = threadIdx.x; i < size; i += kThreads) y[i] = x[i];
}

}  // namespace

void run_gather(const cuda::Context& context, const GatherArgs& args) {
  if (args.rows == 0) return;
  launch(context, gather, dim3(static_cast<unsigned>(args.rows)), kThreads, 0, args);
}

}  // namespace kvasir::kernels

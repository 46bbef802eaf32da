// Eight outputs of each side a thread. Bound by bandwidth: 10 bytes an element of y.

#include "kernels/cuda_device.cuh"
#include "kernels/gated/gated_backward_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) gated_backward(GatedBackwardArgs args) {
  using Eight = Vector<bfloat16>;
  const int64_t vectors = args.size / Eight::kSize;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t row = index / vectors, i = index % vectors;
  if (row >= args.rows) return;
  const auto* gate_up = static_cast<const Eight*>(args.gate_up) + row * 2 * vectors + i;
  const Eight gate = gate_up[0], up = gate_up[vectors];
  const Eight d_y = static_cast<const Eight*>(args.d_y)[row * vectors + i];
  Eight d_gate, d_up;
#pragma unroll
  for (int j = 0; j < Eight::kSize; ++j) {
    const float g = to_float(gate.values[j]), d = to_float(d_y.values[j]);
    const float sigmoid = 1 / (1 + __expf(-g)), silu = g * sigmoid;
    d_up.values[j] = from_float<bfloat16>(d * silu);
    d_gate.values[j] =
        from_float<bfloat16>(d * to_float(up.values[j]) * (sigmoid + silu * (1 - sigmoid)));
  }
  auto* d_gate_up = static_cast<Eight*>(args.d_gate_up) + row * 2 * vectors + i;
  d_gate_up[0] = d_gate;
  d_gate_up[vectors] = d_up;
}

}  // namespace

void run_gated_backward(const cuda::Context& context, const GatedBackwardArgs& args) {
  if (args.rows == 0) return;
  const int64_t threads = args.rows * (args.size / Vector<bfloat16>::kSize);
  gated_backward<<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0,
                   context.stream>>>(args);
  KVASIR_CUDA_LAUNCHED();
}

}  // namespace kvasir::kernels

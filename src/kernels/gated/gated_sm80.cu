// Eight outputs a thread. Bound by bandwidth: 6 bytes an output.

#include "kernels/cuda_device.cuh"
#include "kernels/gated/gated_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kOutputs = 8;  // of a thread: 16 bytes

template <class T>
__global__ void __launch_bounds__(kThreads) gated(GatedArgs args) {
  let_next_begin();
  wait_for_inputs();
  const int64_t row = blockIdx.x;
  const int64_t i = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kOutputs;
  if (i >= args.size) return;
  const T* gate_up = static_cast<const T*>(args.gate_up) + row * 2 * args.size + i;
  const auto gate = *reinterpret_cast<const Vector<T>*>(gate_up);
  const auto up = *reinterpret_cast<const Vector<T>*>(gate_up + args.size);
  Vector<T> y;
#pragma unroll
  for (int j = 0; j < kOutputs; ++j) {
    float g = to_float(gate.values[j]), u = to_float(up.values[j]);
    if (args.bias) {
      g += args.bias[i + j];
      u += args.bias[args.size + i + j];
    }
    y.values[j] = from_float<T>(g / (1 + expf(-g)) * u);
  }
  *reinterpret_cast<Vector<T>*>(static_cast<T*>(args.y) + row * args.size + i) = y;
}

}  // namespace

void run_gated(const cuda::Context& context, const GatedArgs& args) {
  if (args.rows == 0) return;
  constexpr int64_t kCtaOutputs = kThreads * kOutputs;
  const dim3 grid(static_cast<unsigned>(args.rows),
                  static_cast<unsigned>((args.size + kCtaOutputs - 1) / kCtaOutputs));
  if (args.dtype == DType::kBF16)
    launch(context, gated<bfloat16>, grid, kThreads, 0, args);
  else
    launch(context, gated<float16>, grid, kThreads, 0, args);
}

}  // namespace kvasir::kernels

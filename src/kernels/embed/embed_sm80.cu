#include "kernels/cuda_device.cuh"
#include "kernels/embed/embed_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) embed(EmbedArgs args) {
  wait_for_inputs();
  let_next_begin();
  const int64_t row = blockIdx.x;
  const T* source = static_cast<const T*>(args.table) + args.tokens[row] * args.size;
  float* out = args.out + row * args.size;
  constexpr int kStep = Vector<T>::kSize;
  for (int64_t i = threadIdx.x * kStep; i < args.size; i += kThreads * kStep) {
    const auto values = *reinterpret_cast<const Vector<T>*>(source + i);
#pragma unroll
    for (int j = 0; j < kStep; j += 4)
      *reinterpret_cast<float4*>(out + i + j) =
          make_float4(to_float(values.values[j]), to_float(values.values[j + 1]),
                      to_float(values.values[j + 2]), to_float(values.values[j + 3]));
  }
}

}  // namespace

void run_embed(const cuda::Context& context, const EmbedArgs& args) {
  if (args.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.rows));
  if (args.dtype == DType::kBF16)
    launch(context, embed<bfloat16>, grid, kThreads, 0, args);
  else
    launch(context, embed<float16>, grid, kThreads, 0, args);
}

}  // namespace kvasir::kernels

// One CTA a row. Bound by latency for few rows and by bandwidth for many: size * (4 + size of y's
// type) bytes a row. The order of summation depends on the size alone.

#include <algorithm>

#include "kernels/cuda_device.cuh"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kHeld = 4;  // vectors of a thread that stay in registers; longer rows are read twice
constexpr int kMostThreads = 1024;

int threads_of(int64_t size) {
  const int64_t wanted = (size / 4 + kHeld - 1) / kHeld;
  return static_cast<int>(std::clamp<int64_t>((wanted + 31) / 32 * 32, 32, kMostThreads));
}

__device__ __forceinline__ float squares(float4 v) {
  return fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, v.w * v.w)));
}

// The sum over the CTA's threads, for each of them.
__device__ __forceinline__ float sum_of_threads(float value) {
  __shared__ float warps[kMostThreads / 32];
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffff, value, distance);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = threadIdx.x % 32 < blockDim.x / 32 ? warps[threadIdx.x % 32] : 0;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffff, value, distance);
  return value;
}

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T values[4];
};

template <class T, bool kAccumulate>
__device__ __forceinline__ void store(T* y, float4 x, float scale, float4 weight) {
  float4 result = make_float4(x.x * scale * weight.x, x.y * scale * weight.y,
                              x.z * scale * weight.z, x.w * scale * weight.w);
  if constexpr (kAccumulate) {
    const float4 before = *reinterpret_cast<const float4*>(y);
    result = make_float4(before.x + result.x, before.y + result.y, before.z + result.z,
                         before.w + result.w);
  }
  *reinterpret_cast<Four<T>*>(y) = Four<T>{{from_float<T>(result.x), from_float<T>(result.y),
                                            from_float<T>(result.z), from_float<T>(result.w)}};
}

template <class T, bool kAccumulate = false>
__global__ void __launch_bounds__(kMostThreads) rms_norm(CudaRmsNormArgs args) {
  let_next_begin();
  const int vectors = static_cast<int>(args.size / 4);
  const int first = threadIdx.x, stride = blockDim.x;
  const auto* weight = reinterpret_cast<const float4*>(args.weight);
  float4 held_weight[kHeld];  // constant: read before the inputs are there
#pragma unroll
  for (int j = 0; j < kHeld; ++j)
    if (const int i = first + j * stride; i < vectors) held_weight[j] = __ldg(weight + i);

  wait_for_inputs();
  const int64_t row = blockIdx.x;
  const int64_t x_row = args.row_index ? args.row_index[row] : row;
  const auto* x = reinterpret_cast<const float4*>(args.x + x_row * args.size);
  float4 held[kHeld];
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = first + j * stride;
    held[j] = i < vectors ? x[i] : float4{};
  }
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) sum += squares(held[j]);
#pragma unroll 1
  for (int i = first + kHeld * stride; i < vectors; i += stride) sum += squares(x[i]);
  sum = sum_of_threads(sum);

  const float scale = 1 / sqrtf(sum / static_cast<float>(args.size) + args.eps);
  T* y = static_cast<T*>(args.y) + row * args.size;
#pragma unroll
  for (int j = 0; j < kHeld; ++j)
    if (const int i = first + j * stride; i < vectors)
      store<T, kAccumulate>(y + 4 * i, held[j], scale, held_weight[j]);
#pragma unroll 1
  for (int i = first + kHeld * stride; i < vectors; i += stride)
    store<T, kAccumulate>(y + 4 * i, x[i], scale, __ldg(weight + i));
}

}  // namespace

void run_rms_norm(const cuda::Context& context, const CudaRmsNormArgs& args) {
  if (args.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(args.rows));
  const int threads = threads_of(args.size);
  if (args.accumulate) return launch(context, rms_norm<float, true>, grid, threads, 0, args);
  with_type(args.y_dtype,
            [&](auto type) { launch(context, rms_norm<decltype(type)>, grid, threads, 0, args); });
}

}  // namespace kvasir::kernels

// One CTA a row. The row is read twice, the second time from a cache: once for its maximum and sum,
// once for the gradient weight * (softmax - [target]). Rows that count nothing are only cleared.

#include <cmath>

#include "kernels/cross_entropy/cross_entropy_cuda.h"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 512;
constexpr float kLog2e = 1.4426950408889634f;

// The maximum so far and the sum of 2^(value - maximum), of values times log2(e).
struct Sum {
  float highest, sum;
};

__device__ __forceinline__ Sum joined(Sum a, Sum b) {
  const float highest = fmaxf(a.highest, b.highest);
  // No value yet on both sides: nothing to scale.
  if (highest == -INFINITY) return {highest, 0};
  return {highest, a.sum * exp2f(a.highest - highest) + b.sum * exp2f(b.highest - highest)};
}

__device__ __forceinline__ Sum joined_over_cta(Sum value) {
  __shared__ Sum warps[kThreads / 32];
  const auto over_warp = [](Sum v) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      v = joined(v, {__shfl_xor_sync(0xffffffff, v.highest, distance),
                     __shfl_xor_sync(0xffffffff, v.sum, distance)});
    return v;
  };
  value = over_warp(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  return over_warp(threadIdx.x % 32 < kThreads / 32 ? warps[threadIdx.x % 32] : Sum{-INFINITY, 0});
}

__global__ void __launch_bounds__(kThreads) cross_entropy(CrossEntropyArgs args) {
  using Eight = Vector<bfloat16>;
  const int64_t row = blockIdx.x, vectors = args.vocab / Eight::kSize;
  auto* logits = static_cast<Eight*>(args.logits) + row * vectors;
  const float weight = args.weights[row];
  if (weight == 0) {
    if (threadIdx.x == 0) args.losses[row] = 0;
    if (args.wants_gradient)
      for (int64_t i = threadIdx.x; i < vectors; i += kThreads) logits[i] = Eight{};
    return;
  }
  const int64_t target = args.targets[row];
  const float at_target =
      to_float(static_cast<const bfloat16*>(args.logits)[row * args.vocab + target]);
  Sum sum{-INFINITY, 0};
  for (int64_t i = threadIdx.x; i < vectors; i += kThreads) {
    const Eight held = logits[i];
    float values[Eight::kSize], highest = sum.highest;
#pragma unroll
    for (int j = 0; j < Eight::kSize; ++j) {
      values[j] = to_float(held.values[j]) * kLog2e;
      highest = fmaxf(highest, values[j]);
    }
    if (highest == -INFINITY) continue;
    sum.sum *= exp2f(sum.highest - highest);
    sum.highest = highest;
#pragma unroll
    for (int j = 0; j < Eight::kSize; ++j) sum.sum += exp2f(values[j] - highest);
  }
  // The barrier inside also keeps the logit of the target from being replaced before it is read.
  sum = joined_over_cta(sum);
  const float log2_sum = sum.highest + log2f(sum.sum);
  if (threadIdx.x == 0) args.losses[row] = weight * (log2_sum / kLog2e - at_target);
  if (!args.wants_gradient) return;
  for (int64_t i = threadIdx.x; i < vectors; i += kThreads) {
    Eight held = logits[i];
#pragma unroll
    for (int j = 0; j < Eight::kSize; ++j) {
      float gradient = exp2f(fmaf(to_float(held.values[j]), kLog2e, -log2_sum));
      if (i * Eight::kSize + j == target) gradient -= 1;
      held.values[j] = from_float<bfloat16>(weight * gradient);
    }
    logits[i] = held;
  }
}

}  // namespace

void run_cross_entropy(const cuda::Context& context, const CrossEntropyArgs& args) {
  if (args.rows == 0) return;
  cross_entropy<<<static_cast<unsigned>(args.rows), kThreads, 0, context.stream>>>(args);
  KVASIR_CUDA_LAUNCHED();
}

}  // namespace kvasir::kernels

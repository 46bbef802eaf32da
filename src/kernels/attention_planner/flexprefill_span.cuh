#pragma once
// What the kernels of FlexPrefill's planning know of their span.

#include "kernels/attention_planner/flexprefill_work_cuda.h"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels::flexprefill {

struct Span {
  CudaAttentionSpan at;
  int length, blocks, tiles;
  int last_queries;  // that the estimate is made from
  bool is_dense;     // too short for anything to be left out

  __device__ __forceinline__ explicit Span(const Work& work)
      : at(work.args.spans[work.span]),
        length(at.query_offset + at.rows),
        blocks((length + kBlock - 1) / kBlock),
        tiles((at.rows + kBlock - 1) / kBlock),
        last_queries(min(at.rows, kBlock)),
        is_dense(blocks <= max(2, work.args.min_blocks)) {}
  __device__ __forceinline__ bool empty() const { return at.rows == 0; }
  // Of a row tile: its first position, and the keys that its last query sees.
  __device__ __forceinline__ int position(int tile) const {
    return at.query_offset + tile * kBlock;
  }
  __device__ __forceinline__ int end(int tile) const {
    return min(length, position(tile) + kBlock);
  }
  __device__ __forceinline__ int visible(int tile) const { return (end(tile) - 1) / kBlock + 1; }
};

__device__ __forceinline__ const float* query_mean(const Work& work, int head, int tile) {
  return work.query_means +
         (int64_t{head} * (work.most_tiles + 1) + tile) * work.args.bounds.head_dim;
}
__device__ __forceinline__ const float4* key_means(const Work& work, int head) {
  const FlexPrefillBounds& bounds = work.args.bounds;
  const int kv_head = head / (bounds.q_heads / bounds.kv_heads);
  return reinterpret_cast<const float4*>(work.key_means +
                                         int64_t{kv_head} * bounds.head_dim * work.most_blocks);
}

// The largest of the block's values, for all its threads.
template <int kThreads>
__device__ __forceinline__ float block_max(float value, float* warp_values) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, step));
  __syncthreads();
  if (threadIdx.x % 32 == 0) warp_values[threadIdx.x / 32] = value;
  __syncthreads();
  for (int i = 0; i < kThreads / 32; ++i) value = fmaxf(value, warp_values[i]);
  return value;
}
// The sum, in one order.
template <int kThreads>
__device__ __forceinline__ double block_sum(double value, double* warp_values) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warp_values[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (int i = 0; i < kThreads / 32; ++i) sum += warp_values[i];
  return sum;
}

// Products become a softmax over `count` entries, in place.
template <int kThreads>
__device__ __forceinline__ void softmax(float* products, int count, float scale,
                                        double* warp_values) {
  auto* const warp_maxima = reinterpret_cast<float*>(warp_values);
  const int thread = static_cast<int>(threadIdx.x);
  float top = -INFINITY;
  for (int i = thread; i < count; i += kThreads) top = fmaxf(top, products[i] *= scale);
  top = block_max<kThreads>(top, warp_maxima);
  double sum = 0;
  for (int i = thread; i < count; i += kThreads) {
    products[i] = expf(products[i] - top);
    sum += double{products[i]};
  }
  sum = block_sum<kThreads>(sum, warp_values);
  for (int i = thread; i < count; i += kThreads)
    products[i] = static_cast<float>(double{products[i]} / sum);
}

}  // namespace kvasir::kernels::flexprefill

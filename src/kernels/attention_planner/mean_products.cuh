#pragma once
// Products of mean queries and mean keys, with the bits of the CPU's: eight sums side by side, not
// fused (prefill/means.h).

#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {

inline constexpr int kMeanLanes = 8;
inline constexpr int kMaxMeanDim = 256;  // of a head

// products[tile * most_blocks + block] of some means of queries against those of `blocks` blocks,
// which lie as [head_dim / 4][most_blocks][4].
template <int kTiles, int kThreads>
__device__ __forceinline__ void multiply_means(int head_dim, int blocks, const float4* block_means,
                                               int most_blocks,
                                               const float (&tile_means)[kTiles][kMaxMeanDim],
                                               float* products) {
  for (int block = static_cast<int>(threadIdx.x); block < blocks; block += kThreads) {
    float sums[kTiles][kMeanLanes] = {};
#pragma unroll 1
    for (int i = 0; i < head_dim; i += kMeanLanes) {
      const float4 low = block_means[int64_t{i / 4} * most_blocks + block];
      const float4 high = block_means[int64_t{i / 4 + 1} * most_blocks + block];
      const float keys[kMeanLanes] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int j = 0; j < kMeanLanes; ++j)
          sums[tile][j] = __fadd_rn(sums[tile][j], __fmul_rn(tile_means[tile][i + j], keys[j]));
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int j = 1; j < kMeanLanes; ++j) sums[tile][0] = __fadd_rn(sums[tile][0], sums[tile][j]);
      products[tile * most_blocks + block] = sums[tile][0];
    }
  }
}

}  // namespace kvasir::kernels

#pragma once
// A long row of scores in device memory as radix selection reads it.

#include "kernels/attention_planner/radix_select.cuh"

namespace kvasir::kernels::radix {

// From here on what a cluster saves is more than what its barriers cost (on an H100 0.15 ms against
// 0.19 at 128K, 2.1 against 1.0 at 1M). The choice changes no bit.
inline constexpr int64_t kLongRow = 1 << 18;

// One row of scores as keys, the forced ones first of all, and a block's part of it.
template <int kThreads>
struct ScoreRow {
  static constexpr int kVector = 4;  // scores a lane reads at once
  static constexpr int kBatch = 4;   // such reads under way at once

  const float* scores;
  int length, forced;
  int first, last;  // the part; begins at a multiple of 4

  // Of a row for each of `blocks`.
  static __device__ __forceinline__ int part_of(int length, int blocks) {
    return (length + blocks * kVector - 1) / (blocks * kVector) * kVector;
  }
  __device__ __forceinline__ uint32_t key(int i, float score) const {
    if (i >= length) return kNone;
    return key_of(i < forced ? INFINITY : score);
  }
  // Four at a time, from a multiple of 4 on. The row's memory is a multiple of 4 long.
  __device__ __forceinline__ float4 read(int i) const {
    return i < length ? *reinterpret_cast<const float4*>(scores + i) : float4{};
  }
  // Calls use(index, score) in whole warps for the part; indices beyond it are `length`.
  template <class Use>
  __device__ __forceinline__ void for_each(Use&& use) const {
    constexpr int kStride = kThreads * kVector;
#pragma unroll 1
    for (int step = first; step < last; step += kStride * kBatch) {
      float4 scores_of[kBatch];
      const int from = step + static_cast<int>(threadIdx.x) * kVector;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int at = from + i * kStride;
        scores_of[i] = at < last ? read(at) : float4{};
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (step + i * kStride >= last) break;
        const int at = from + i * kStride < last ? from + i * kStride : length;
        use(at, scores_of[i].x);
        use(at + 1, scores_of[i].y);
        use(at + 2, scores_of[i].z);
        use(at + 3, scores_of[i].w);
      }
    }
  }
};

}  // namespace kvasir::kernels::radix

#pragma once
// Online softmax over the sums that a warpgroup's product leaves in registers (sm90_wgmma.cuh): a
// thread holds parts of two rows, 8 apart; 4 neighbours hold a row. Base 2, with the scale folded
// into one multiply-add.

#include <cmath>
#include <type_traits>

#include "kernels/paged_attention/sm90_wgmma.cuh"

namespace kvasir::kernels::sm90::prefill {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ __forceinline__ float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Takes the scores of keys outside [first, last] of each row out; counted from the thread's first
// column.
template <int kCount>
__device__ __forceinline__ void mask_scores(float (&scores)[kCount], const int (&first)[2],
                                            const int (&last)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int column = i / 4 * 8 + i % 2, row = i % 4 / 2;
    if (column < first[row] || column > last[row]) scores[i] = -INFINITY;
  }
}

struct SoftmaxRows {
  float maximum[2] = {-INFINITY, -INFINITY};  // of the scores times scale_log2
  float sum[2] = {0, 0};                      // over this thread's columns

  // Replaces scores by weights. Returns what the sums of before are to be multiplied by: exactly 1
  // where the maximum stays.
  template <int kCount>
  __device__ __forceinline__ void add(float (&scores)[kCount], float scale_log2,
                                      float (&correction)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float highest = fmaxf(scores[2 * row], scores[2 * row + 1]);
#pragma unroll
      for (int i = 2 * row + 4; i < kCount; i += 4)
        highest = fmaxf(highest, fmaxf(scores[i], scores[i + 1]));
      highest = fmaxf(highest, __shfl_xor_sync(kWholeWarp, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(kWholeWarp, highest, 2));
      const float before = maximum[row];
      maximum[row] = fmaxf(before, highest * scale_log2);
      // Where no key was visible yet, anything finite keeps the weights at 0.
      const float reference = maximum[row] == -INFINITY ? 0.0f : maximum[row];
      float total = 0;
#pragma unroll
      for (int i = 2 * row; i < kCount; i += 4) {
        scores[i] = fast_exp2(fmaf(scores[i], scale_log2, -reference));
        scores[i + 1] = fast_exp2(fmaf(scores[i + 1], scale_log2, -reference));
        total += scores[i] + scores[i + 1];
      }
      correction[row] = fast_exp2(before - reference);
      sum[row] = fmaf(sum[row], correction[row], total);
    }
  }

  // Once, behind the last key: sums over the row.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      sum[row] += __shfl_xor_sync(kWholeWarp, sum[row], 1);
      sum[row] += __shfl_xor_sync(kWholeWarp, sum[row], 2);
    }
  }
};

template <int kCount>
__device__ __forceinline__ void scale_rows(float (&sums)[kCount], const float (&factors)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] *= factors[i % 4 / 2];
}

// Weights as operand A of the product with the values.
template <class T, int kCount>
__device__ __forceinline__ void pack_weights(uint32_t (&packed)[kCount / 2],
                                             const float (&weights)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) packed[i] = pack_pair<T>(weights[2 * i], weights[2 * i + 1]);
}

// Four neighbours hold one word each of four vectors; afterwards each holds the vector of its own
// number.
__device__ __forceinline__ void transpose_among_four(uint32_t (&words)[4], int lane) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2)
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int low = step == 1 ? 2 * pair : pair, high = low + step;
      const bool upper = (lane & step) != 0;
      const uint32_t other = __shfl_xor_sync(kWholeWarp, upper ? words[low] : words[high], step);
      if (upper)
        words[low] = other;
      else
        words[high] = other;
    }
}

// One of a thread's two rows (`half`), divided by its sum, to `out`; together with the neighbours
// that hold the rest of it. `lse` may be null.
template <class T, int kCount>
__device__ __forceinline__ void write_row(const float (&sums)[kCount], const SoftmaxRows& rows,
                                          int half, int lane, bool valid, T* out, float* lse) {
  constexpr float kLn2 = 0.693147180559945f;
  const float sum = rows.sum[half], factor = sum > 0 ? reciprocal(sum) : 0.0f;
#pragma unroll
  for (int block = 0; block < kCount / 16; ++block) {
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int first = (block * 4 + i) * 4 + half * 2;
      words[i] = pack_pair<T>(sums[first] * factor, sums[first + 1] * factor);
    }
    transpose_among_four(words, lane);
    if (valid)
      *reinterpret_cast<uint4*>(out + (block * 4 + lane % 4) * 8) =
          make_uint4(words[0], words[1], words[2], words[3]);
  }
  if (valid && lse && lane % 4 == 0)
    *lse = sum > 0 ? rows.maximum[half] * kLn2 + logf(sum) : -INFINITY;
}

}  // namespace kvasir::kernels::sm90::prefill

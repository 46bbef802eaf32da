#pragma once
// The scores of one draw (logits after penalties), their order and their weights.

#include <cfloat>
#include <cstdint>

#include "kernels/sample/sample_cuda.h"
#include "kernels/sample/sample_team.cuh"

namespace kvasir::kernels::sampling {

// Floats as unsigned integers of the same order. Both zeros are one, as comparisons have it.
__device__ inline uint32_t key_of(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits ^ ((bits >> 31) ? 0xffffffffu : 0x80000000u);
}
__device__ inline float value_of(uint32_t key) {
  return __uint_as_float(key ^ ((key >> 31) ? 0x80000000u : 0xffffffffu));
}
constexpr uint32_t kLowestKey = 0x007fffff;  // of -inf

// A place in the order of tokens, larger = more likely; equal scores rank by id, lower first.
constexpr int kIdBits = 20;
constexpr uint32_t kLargestId = (1u << kIdBits) - 1;
__device__ inline uint64_t place_of(float score, uint32_t token) {
  return (uint64_t{key_of(score)} << kIdBits) | (kLargestId - token);
}
__device__ inline uint32_t token_of(uint64_t place) {
  return kLargestId - (static_cast<uint32_t>(place) & kLargestId);
}

struct Penalties {
  const uint8_t* seen;
  const int32_t* counts;
  double repetition, presence, frequency;

  __device__ bool any() const { return seen != nullptr || counts != nullptr; }
  // As the CPU's sampler computes it, to the bit: no fused multiply-add.
  __device__ float apply(float logit, uint32_t token) const {
    double score = logit;
    if (seen != nullptr && seen[token] != 0)
      score = score < 0 ? __dmul_rn(score, repetition) : score / repetition;
    if (counts != nullptr && counts[token] > 0)
      score = __dsub_rn(score, __dadd_rn(presence, __dmul_rn(frequency, counts[token])));
    if (logit == -INFINITY) return logit;
    // Extreme penalties must not make a token infinitely likely.
    return static_cast<float>(fmin(fmax(score, double{-FLT_MAX}), double{FLT_MAX}));
  }
};

// Tokens further from the best one than this, in units of temperature, weigh nothing: all of them
// together are drawn less often than once in 10^13 draws.
constexpr double kFarthest = 44;

struct Weights {
  double best;
  double inverse_temperature;

  __device__ Weights(float best_score, double temperature)
      : best(best_score), inverse_temperature(fmin(1 / temperature, DBL_MAX)) {}
  __device__ double operator()(float score) const {
    const double distance = (best - score) * inverse_temperature;
    return distance > kFarthest ? 0 : exp(-distance);
  }
};

// Calls use(token, logit) for every token of the warp's that the lane looks after, in ascending
// order.
template <int kUnroll, class Use>
__device__ __forceinline__ void for_each_logit(const float* logits, uint32_t first_token,
                                               uint32_t end_token, int lane, Use&& use) {
  const bool aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0;
  for (uint32_t start = first_token + lane * 4; start < end_token; start += 128 * kUnroll) {
    float values[kUnroll][4];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const uint32_t token = start + 128 * i;
      if (aligned && token + 4 <= end_token) {
        const float4 four = *reinterpret_cast<const float4*>(logits + token);
        values[i][0] = four.x, values[i][1] = four.y, values[i][2] = four.z, values[i][3] = four.w;
        continue;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j)
        values[i][j] = token + j < end_token ? logits[token + j] : -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (start + 128 * i + j < end_token) use(start + 128 * i + j, values[i][j]);
  }
}

}  // namespace kvasir::kernels::sampling

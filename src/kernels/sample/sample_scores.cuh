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
static_assert(kLargestSampledVocab <= kLargestId);
__device__ inline uint64_t place_of(float score, uint32_t token) {
  return (uint64_t{key_of(score)} << kIdBits) | (kLargestId - token);
}
__device__ inline uint32_t token_of(uint64_t place) {
  return kLargestId - (static_cast<uint32_t>(place) & kLargestId);
}
__device__ inline float score_of(uint64_t place) {
  return value_of(static_cast<uint32_t>(place >> kIdBits));
}

// Tokens from the most likely one down to a place: what filters leave.
class Leading {
 public:
  __device__ Leading() : score_(-INFINITY), token_(kLargestId) {}
  __device__ explicit Leading(uint64_t lowest) : Leading() {
    if ((lowest >> kIdBits) < kLowestKey) return;
    score_ = score_of(lowest);
    token_ = token_of(lowest);
  }
  __device__ bool has(float score, uint32_t token) const {
    return score > score_ || (score == score_ && token <= token_);
  }

 private:
  float score_;
  uint32_t token_;
};

// As the CPU's sampler computes it, to the bit: no fused multiply-add.
__device__ __noinline__ float penalised(const SampleDraw& draw, float logit, uint32_t token) {
  double score = logit;
  if (draw.seen != nullptr && draw.seen[token] != 0)
    score = score < 0 ? __dmul_rn(score, draw.repetition_penalty) : score / draw.repetition_penalty;
  if (draw.counts != nullptr && draw.counts[token] > 0)
    score = __dsub_rn(score, __dadd_rn(draw.presence_penalty,
                                       __dmul_rn(draw.frequency_penalty, draw.counts[token])));
  if (logit == -INFINITY) return logit;
  // Extreme penalties must not make a token infinitely likely.
  return static_cast<float>(fmin(fmax(score, double{-FLT_MAX}), double{FLT_MAX}));
}

// exp((score - best) / temperature), to the last bits of a double. As 2^-(n + f)/64 with whole n
// and |f| <= 1/2: a table, and a short polynomial.
class Weights {
 public:
  static constexpr int kTableSize = 64;
  // Tokens further from the best one than this, in units of temperature, weigh nothing: all of them
  // together are drawn less often than once in 10^13 draws.
  static constexpr double kFarthest = 44;

  static __device__ void fill(double* table) {
    if (threadIdx.x < kTableSize)
      table[threadIdx.x] = exp2(-static_cast<double>(threadIdx.x) / kTableSize);
  }

  __device__ Weights(const double* table, float best, double temperature)
      : table_(table), best_(best), scale_(fmin(kStepsOfOne / temperature, DBL_MAX)) {}

  __device__ double operator()(float score) const {
    const double steps = (best_ - score) * scale_;
    if (!(steps < kFarthest * kStepsOfOne)) return 0;
    constexpr double kRounder = 0x1.8p52;
    const double shifted = steps + kRounder;
    const int n = __double2loint(shifted);
    const double f = steps - (shifted - kRounder);
    constexpr double kC1 = -1 / kStepsOfOne, kC2 = kC1 * kC1 / 2, kC3 = kC2 * kC1 / 3,
                     kC4 = kC3 * kC1 / 4, kC5 = kC4 * kC1 / 5;
    const double power = fma(fma(fma(fma(fma(kC5, f, kC4), f, kC3), f, kC2), f, kC1), f, 1.0) *
                         table_[n % kTableSize];
    return __hiloint2double(__double2hiint(power) - (n / kTableSize << 20), __double2loint(power));
  }

 private:
  static constexpr double kStepsOfOne = kTableSize / 0.693147180559945309417;  // of e^-1
  const double* table_;  // [kTableSize], in shared memory
  double best_, scale_;
};

// Calls use(token, logit) for the lane's tokens of [first_token, end_token), in ascending order.
// kUnroll tiles of 128 tokens are read at a time where they are whole and the row is aligned.
template <int kUnroll, class Use>
__device__ __forceinline__ void for_each_logit(const float* logits, uint32_t first_token,
                                               uint32_t end_token, int lane, Use&& use) {
  constexpr uint32_t kTile = 128;
  uint32_t tile = first_token;
  if (reinterpret_cast<uintptr_t>(logits) % sizeof(float4) == 0)
    for (; tile + kUnroll * kTile <= end_token; tile += kUnroll * kTile) {
      float4 values[kUnroll];
#pragma unroll
      for (int i = 0; i < kUnroll; ++i)
        values[i] = *reinterpret_cast<const float4*>(logits + tile + i * kTile + lane * 4);
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const uint32_t token = tile + i * kTile + lane * 4;
        use(token, values[i].x);
        use(token + 1, values[i].y);
        use(token + 2, values[i].z);
        use(token + 3, values[i].w);
      }
    }
#pragma unroll(kUnroll > 1 ? 4 : 1)
  for (uint32_t token = tile + lane; token < end_token; token += 32) use(token, logits[token]);
}

}  // namespace kvasir::kernels::sampling

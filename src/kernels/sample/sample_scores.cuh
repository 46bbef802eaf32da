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

// Four consecutive tokens, and their logits or scores; -inf beyond the last token.
struct Four {
  uint32_t token;
  float values[4];
};

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
    return (score > score_) | ((score == score_) & (token <= token_));  // no branches
  }
  // Puts -inf where others stand; false where all of them are others.
  __device__ bool keep(Four& four) const {
    bool any = false;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool is_kept = has(four.values[i], four.token + i);
      if (!is_kept) four.values[i] = -INFINITY;
      any |= is_kept;
    }
    return any;
  }

 private:
  float score_;
  uint32_t token_;
};

// One score as the CPU's sampler computes it, to the bit: no fused multiply-add.
__device__ inline float penalised(const SampleDraw& draw, float logit, bool is_seen,
                                  int32_t count) {
  if (logit == -INFINITY || !(is_seen || count > 0)) return logit;
  double score = logit;
  if (is_seen)
    score = score < 0 ? __dmul_rn(score, draw.repetition_penalty) : score / draw.repetition_penalty;
  if (count > 0)
    score = __dsub_rn(score,
                      __dadd_rn(draw.presence_penalty, __dmul_rn(draw.frequency_penalty, count)));
  // Extreme penalties must not make a token infinitely likely.
  return static_cast<float>(fmin(fmax(score, double{-FLT_MAX}), double{FLT_MAX}));
}
// Called, not inlined: seldom needed code would crowd the instruction cache.
__device__ __noinline__ float4 penalised(const SampleDraw& draw, uint32_t token, float4 logits,
                                         uint32_t end_token) {
  bool is_seen[4] = {};
  int32_t count[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (token + i >= end_token) continue;
    if (draw.seen != nullptr) is_seen[i] = draw.seen[token + i] != 0;
    if (draw.counts != nullptr) count[i] = draw.counts[token + i];
  }
  return make_float4(penalised(draw, logits.x, is_seen[0], count[0]),
                     penalised(draw, logits.y, is_seen[1], count[1]),
                     penalised(draw, logits.z, is_seen[2], count[2]),
                     penalised(draw, logits.w, is_seen[3], count[3]));
}
__device__ __forceinline__ Four penalised(const SampleDraw& draw, const Four& four,
                                          uint32_t end_token) {
  const float4 scores = penalised(
      draw, four.token, make_float4(four.values[0], four.values[1], four.values[2], four.values[3]),
      end_token);
  return {four.token, {scores.x, scores.y, scores.z, scores.w}};
}

// exp((score - best) / temperature), to the last bits of a double. As 2^-(n + f)/64 with whole n
// and |f| <= 1/2: a table, and a short polynomial.
class Weights {
 public:
  static constexpr int kTableSize = 64;
  // Tokens further from the best one than this, in units of temperature, weigh nothing: all of them
  // together are drawn less often than once in 10^13 draws.
  static constexpr double kFarthest = 44;

  // By the whole block, which then waits, before the first weight.
  static __device__ void fill(double* table) {
    if (threadIdx.x < kTableSize)
      table[threadIdx.x] = exp2(-static_cast<double>(threadIdx.x) / kTableSize);
  }

  // Weights below `least` are none.
  __device__ Weights(const double* table, float best, double temperature, double least = 0)
      : table_(shared_address(table)),
        best_(best),
        scale_(fmin(kStepsOfOne / temperature, DBL_MAX)),
        least_(least) {}

  __device__ double operator()(float score) const {
    constexpr double kMostSteps = kFarthest * kStepsOfOne;
    const double distance = (best_ - score) * scale_;
    const double steps = distance < kMostSteps ? distance : kMostSteps;
    constexpr double kRounder = 0x1.8p52;
    const double shifted = steps + kRounder;
    const auto n = static_cast<uint32_t>(__double2loint(shifted));
    const double f = steps - (shifted - kRounder);
    constexpr double kC1 = -1 / kStepsOfOne, kC2 = kC1 * kC1 / 2, kC3 = kC2 * kC1 / 3,
                     kC4 = kC3 * kC1 / 4, kC5 = kC4 * kC1 / 5;
    const double power = fma(fma(fma(fma(fma(kC5, f, kC4), f, kC3), f, kC2), f, kC1), f, 1.0) *
                         power_of(n % kTableSize);
    const double weight = __hiloint2double(
        __double2hiint(power) - static_cast<int>(n / kTableSize << 20), __double2loint(power));
    // Without a branch: several are computed at once.
    return steps < kMostSteps && weight >= least_ ? weight : 0;
  }

 private:
  static constexpr double kStepsOfOne = kTableSize / 0.693147180559945309417;  // of e^-1
  // By its address in shared memory, which the compiler does not see through a function's
  // arguments.
  __device__ double power_of(uint32_t index) const {
    double power;
    asm("ld.shared.f64 %0, [%1];" : "=d"(power) : "r"(table_ + index * 8));
    return power;
  }

  uint32_t table_;
  double best_, scale_, least_;
};

// A lane's part of a run of tokens of a row: its logits, or its scores where there is a draw with
// penalties.
struct Row {
  const float* logits;
  const SampleDraw* penalties;  // or null
  uint32_t first_token, end_token;

  // use(four), in ascending order. kUnroll tiles of 128 tokens are read at a time where they are
  // whole and the row is aligned.
  template <int kUnroll, class Use>
  __device__ __forceinline__ void for_each(Use&& use) const {
    __builtin_assume(__isGlobal(logits));
    constexpr uint32_t kTile = 128;
    uint32_t tile = first_token;
    const uint32_t offset = threadIdx.x % 32 * 4;
    if (reinterpret_cast<uintptr_t>(logits) % sizeof(float4) == 0)
      for (; tile + kUnroll * kTile <= end_token; tile += kUnroll * kTile) {
        float4 read[kUnroll];
#pragma unroll
        for (int i = 0; i < kUnroll; ++i)
          read[i] = *reinterpret_cast<const float4*>(logits + tile + i * kTile + offset);
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) use(scores(tile + i * kTile + offset, read[i]));
      }
#pragma unroll 1
    for (uint32_t token = tile + offset; token < end_token; token += kTile) {
      float4 read;
      read.x = logits[token];
      read.y = token + 1 < end_token ? logits[token + 1] : -INFINITY;
      read.z = token + 2 < end_token ? logits[token + 2] : -INFINITY;
      read.w = token + 3 < end_token ? logits[token + 3] : -INFINITY;
      use(scores(token, read));
    }
  }
  // The same with -inf for tokens that `leading` has not, and without fours of such tokens alone.
  template <class Use>
  __device__ __forceinline__ void for_each_of(const Leading& leading, Use&& use) const {
    for_each<1>([&](Four four) {
      if (leading.keep(four)) use(four);
    });
  }
  // Of any token of the row.
  __device__ __forceinline__ float score(uint32_t token) const {
    const Four one{token, {logits[token], -INFINITY, -INFINITY, -INFINITY}};
    return penalties == nullptr ? one.values[0] : penalised(*penalties, one, token + 1).values[0];
  }

 private:
  __device__ __forceinline__ Four scores(uint32_t token, float4 read) const {
    const Four four{token, {read.x, read.y, read.z, read.w}};
    return penalties == nullptr ? four : penalised(*penalties, four, end_token);
  }
};

// The sum of the weights of a lane's tokens.
__device__ __noinline__ double sum_of_lane(Row row, Leading leading, Weights weights) {
  double sum = 0;
  row.for_each_of(leading, [&](const Four& four) {
    const double first = weights(four.values[0]), second = weights(four.values[1]);
    const double third = weights(four.values[2]), fourth = weights(four.values[3]);
    sum += (first + second) + (third + fourth);
  });
  return sum;
}

}  // namespace kvasir::kernels::sampling

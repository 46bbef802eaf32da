#pragma once
// The highest of many scores by radix: their place in order is found digit by digit in histograms,
// without sorting. A team of blocks (block_team.cuh) works on one row of scores. Of equal scores
// the first are taken; NaN is the lowest. Sums of scores are integers, so that neither the order of
// arrival nor the cut into threads changes a bit.

#include "kernels/attention_planner/radix_threshold.h"
#include "kernels/block_team.cuh"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels::radix {

inline constexpr int kBins = 2048;
inline constexpr int kDigits = 3;     // of 11, 11 and 10 bits
inline constexpr uint32_t kNone = 0;  // the key of what does not compete; below every other key

// Ordered like the scores.
__device__ __forceinline__ uint32_t key_of(float score) {
  if (isnan(score)) score = -INFINITY;
  const uint32_t bits = __float_as_uint(score + 0.0f);  // -0 becomes 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float score_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// A score as a number of units of 2^-36: 2^20 scores of up to 64 can be added. Scores below 0 are
// none.
inline constexpr float kMassUnit = 0x1p-36f;
__device__ __forceinline__ uint64_t mass_of(float score) {
  return score > 0 ? __float2ull_rn(fminf(score, 64.0f) * (1 / kMassUnit)) : 0;
}

template <class Group, int kThreads, bool kByMass>
struct Shared {
  uint32_t counts[kBins];
  uint32_t low[kByMass ? kBins : 1], high[kByMass ? kBins : 1];  // halves of masses
  uint64_t warp_sums[kThreads / 32];
  uint32_t warp_counts[kThreads / 32];
  // Of the bins that each block of the team looks after, the highest ones by the first block.
  uint64_t sums_of_blocks[Group::kBlocks];
  uint32_t counts_of_blocks[Group::kBlocks];
  uint32_t digit;
  uint32_t before;  // entries above the digit
  uint64_t left;    // what is wanted from the digit on
};

// The sum over this and all lower threads. `warp_sums` is free again behind the next barrier.
template <int kThreads, class T>
__device__ __forceinline__ T block_scan(T value, T* warp_sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T below = __shfl_up_sync(~0u, value, step);
    if (lane >= step) value += below;
  }
  if (lane == 31) warp_sums[warp] = value;
  __syncthreads();
  for (int i = 0; i < warp; ++i) value += warp_sums[i];
  return value;
}

template <class Group, int kThreads, bool kByMass>
__device__ __forceinline__ void add_key(Shared<Group, kThreads, kByMass>& shared, uint32_t key,
                                        uint32_t digit, bool counts) {
  if (!__any_sync(~0u, counts)) return;
  if constexpr (kByMass) {
    if (!counts) return;
    atomicAdd(&shared.counts[digit], 1u);
    // There is no 64-bit addition in shared memory; a carry is seen by who causes it.
    const uint64_t mass = mass_of(score_of(key));
    const auto part = static_cast<uint32_t>(mass);
    const uint32_t carry = atomicAdd(&shared.low[digit], part) + part < part ? 1 : 0;
    const uint32_t rest = static_cast<uint32_t>(mass >> 32) + carry;
    if (rest != 0) atomicAdd(&shared.high[digit], rest);
  } else {
    // Many equal scores, zeros above all, would queue up for one counter.
    const uint32_t first = __shfl_sync(~0u, digit, 0);
    if (__all_sync(~0u, counts && digit == first)) {
      if (threadIdx.x % 32 == 0) atomicAdd(&shared.counts[digit], 32u);
    } else if (counts) {
      atomicAdd(&shared.counts[digit], 1u);
    }
  }
}

// Where the keys from the highest on reach `wanted` entries (or units of mass, and then `count`,
// if not null, receives how many entries that takes). for_each(use) calls use(key) in whole warps
// for all keys of this block's part of the row, kNone where there is none.
// 0 < wanted <= what there is. All threads of the team get the result.
template <bool kByMass, class Group, int kThreads, class ForEach>
__device__ Threshold find_threshold(Shared<Group, kThreads, kByMass>& shared, uint64_t wanted,
                                    ForEach for_each, uint32_t* count = nullptr) {
  constexpr int kBinsOfBlock = kBins / Group::kBlocks;
  constexpr int kOwnBins = (kBinsOfBlock + kThreads - 1) / kThreads;  // of a thread
  static_assert(kBinsOfBlock % kOwnBins == 0);
  const int thread = static_cast<int>(threadIdx.x), rank = Group::rank();
  const bool has_bins = thread < kBinsOfBlock / kOwnBins;
  uint32_t prefix = 0, entries = 0;
#pragma unroll 1
  for (int digit = 0; digit < kDigits; ++digit) {
    const int shift = digit == 0 ? 21 : digit == 1 ? 10 : 0;
    const int bits = digit == 2 ? 10 : 11;
    for (int i = thread; i < kBins; i += kThreads) {
      shared.counts[i] = 0;
      if constexpr (kByMass) shared.low[i] = shared.high[i] = 0;
    }
    __syncthreads();
    for_each([&](uint32_t key) {
      const bool counts =
          key != kNone && (digit == 0 || key >> (shift + bits) == prefix >> (shift + bits));
      add_key(shared, key, key >> shift & ((1u << bits) - 1), counts);
    });
    Group::sync();
    // Bins from the highest on.
    const int first = kBins - 1 - rank * kBinsOfBlock - thread * kOwnBins;
    uint64_t amounts[kOwnBins] = {}, own = 0;
    uint32_t counts[kOwnBins] = {}, own_count = 0;
    if (has_bins)
#pragma unroll
      for (int i = 0; i < kOwnBins; ++i) {
#pragma unroll
        for (int block = 0; block < Group::kBlocks; ++block) {
          counts[i] += *Group::at(&shared.counts[first - i], block);
          if constexpr (kByMass)
            amounts[i] += (uint64_t{*Group::at(&shared.high[first - i], block)} << 32) +
                          *Group::at(&shared.low[first - i], block);
        }
        if constexpr (!kByMass) amounts[i] = counts[i];
        own += amounts[i];
        own_count += counts[i];
      }
    uint64_t before = block_scan<kThreads>(own, shared.warp_sums);
    uint32_t count_before = 0;
    if constexpr (kByMass) count_before = block_scan<kThreads>(own_count, shared.warp_counts);
    if (thread == kThreads - 1)
#pragma unroll 1
      for (int block = 0; block < Group::kBlocks; ++block) {
        *Group::at(&shared.sums_of_blocks[rank], block) = before;
        *Group::at(&shared.counts_of_blocks[rank], block) = count_before;
      }
    Group::sync();
    before -= own;
    count_before -= own_count;
    for (int block = 0; block < rank; ++block) {
      before += shared.sums_of_blocks[block];
      count_before += shared.counts_of_blocks[block];
    }
    if (before < wanted && wanted <= before + own) {
#pragma unroll
      for (int i = 0; i < kOwnBins; ++i) {
        if (before < wanted && wanted <= before + amounts[i])
#pragma unroll 1
          for (int block = 0; block < Group::kBlocks; ++block) {
            *Group::at(&shared.digit, block) = static_cast<uint32_t>(first - i);
            *Group::at(&shared.left, block) = wanted - before;
            *Group::at(&shared.before, block) = count_before;
          }
        before += amounts[i];
        count_before += counts[i];
      }
    }
    Group::sync();
    prefix |= shared.digit << shift;
    wanted = shared.left;
    entries += shared.before;
  }
  uint64_t equal = wanted;
  if constexpr (kByMass) {
    const uint64_t each = mass_of(score_of(prefix));
    equal = each == 0 ? 1 : (wanted + each - 1) / each;
    if (count != nullptr) *count = entries + static_cast<uint32_t>(equal);
  }
  __syncthreads();
  return {prefix, static_cast<uint32_t>(equal)};
}

// The sum over all threads of the block.
template <int kThreads>
__device__ __forceinline__ uint64_t block_sum(uint64_t value, uint64_t* warp_sums) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  uint64_t sum = 0;
  for (int i = 0; i < kThreads / 32; ++i) sum += warp_sums[i];
  return sum;
}

}  // namespace kvasir::kernels::radix

#pragma once
// Finds how far down the order of tokens a filter reaches: radix selection over a histogram of
// counts or weights. Weights are summed as integers, so that the result does not depend on the
// order in which they arrive.

#include "kernels/sample/sample_scores.cuh"

namespace kvasir::kernels::sampling {

constexpr int kBins = kThreads;  // a thread of the team's first block looks after one
constexpr int kNoBin = kBins;
constexpr int kBinBits = 9;
static_assert(kBins == 1 << kBinBits);
constexpr double kWeightUnit = 0x1p44;  // of a weight of 1; 2^18 of them fit 64 bits

struct Found {
  int bin;          // the first with which the sum reaches what is wanted, or kNoBin
  uint32_t count;   // tokens in it
  uint64_t left;    // what is wanted of it (of all beyond the bins, where none was found)
  uint64_t amount;  // of the bin
};

struct Histogram {
  uint32_t counts[kBins];
  uint32_t low[kBins], high[kBins];  // halves of sums of weights
  uint64_t sums_of_warps[kWarps];
  Found found;

  __device__ void clear(int bin) {
    counts[bin] = 0;
    low[bin] = 0;
    high[bin] = 0;
  }
  __device__ uint64_t weight(int bin) const { return (uint64_t{high[bin]} << 32) | low[bin]; }
};

// There is no 64-bit addition in shared memory; a carry is seen by who causes it.
__device__ inline void add_weight(uint32_t* low, uint32_t* high, uint64_t amount) {
  const auto part = static_cast<uint32_t>(amount);
  const uint32_t carry = atomicAdd(low, part) + part < part ? 1 : 0;
  const uint32_t rest = static_cast<uint32_t>(amount >> 32) + carry;
  if (rest != 0) atomicAdd(high, rest);
}

// In the team's first block, which then has the sums of all: looks for the bin and tells all
// blocks.
template <class Group>
__device__ void search(Histogram& histogram, uint64_t wanted, bool is_weighted) {
  const int bin = static_cast<int>(threadIdx.x), lane = bin % 32, own_warp = bin / 32;
  const uint32_t count = histogram.counts[bin];
  const uint64_t amount = is_weighted ? histogram.weight(bin) : count;
  histogram.clear(bin);
  uint64_t sum = warp_scan(amount, lane);
  if (lane == 31) histogram.sums_of_warps[own_warp] = sum;
  __syncthreads();
  for (int warp = 0; warp < own_warp; ++warp) sum += histogram.sums_of_warps[warp];
  const uint64_t before = sum - amount;
  const bool is_reached = before < wanted && wanted <= sum;
  if (!is_reached && !(bin == kBins - 1 && sum < wanted)) return;
  const Found found{.bin = is_reached ? bin : kNoBin,
                    .count = count,
                    .left = wanted - (is_reached ? before : sum),
                    .amount = amount};
#pragma unroll 1
  for (int rank = 0; rank < Group::kBlocks; ++rank) *Group::at(&histogram.found, rank) = found;
}

// Sums up the histograms of a team, finds the bin in which the sum reaches what is wanted, and
// clears them. histogram.found is the same in all blocks afterwards.
template <class Group>
__device__ __noinline__ void find(Histogram& histogram, uint64_t wanted, bool is_weighted) {
  const int bin = static_cast<int>(threadIdx.x);
  __syncthreads();
  const uint32_t count = histogram.counts[bin];
  if (Group::rank() != 0 && count != 0) {
    atomicAdd(Group::at(&histogram.counts[bin], 0), count);
    if (is_weighted)
      add_weight(Group::at(&histogram.low[bin], 0), Group::at(&histogram.high[bin], 0),
                 histogram.weight(bin));
    histogram.clear(bin);
  }
  Group::sync();
  if (Group::rank() == 0) search<Group>(histogram, wanted, is_weighted);
  Group::sync();
}

// Bins of equal width in the score, the best one first; the last one has all that is beyond.
struct EqualBins {
  float best, scale;

  __device__ int of(float score) const {
    return min(kBins - 1, __float2int_rz(__fmul_rn(__fsub_rn(best, score), scale)));
  }
  // The lowest and the highest place in a bin, by all lanes together.
  __device__ __noinline__ ulonglong2 places(int bin) const {
    Search own{bin, kLowestKey, key_of(best)}, before{bin - 1, kLowestKey, key_of(best)};
    while (step(own) | step(before)) {
    }
    return {bin == kBins - 1 ? 0 : uint64_t{own.to} << kIdBits,
            bin == 0 ? ~uint64_t{0} >> (32 - kIdBits) : (uint64_t{before.to} << kIdBits) - 1};
  }

 private:
  // For the lowest key that falls into `bin` or one before it: it is in [from, to].
  struct Search {
    int bin;
    uint32_t from, to;
  };
  __device__ bool step(Search& search) const {
    if (search.from >= search.to) return false;
    const uint64_t width = search.to - search.from;
    const uint32_t probe = search.from + static_cast<uint32_t>(width * (threadIdx.x % 32) / 32);
    const uint32_t does = __ballot_sync(kFullWarp, of(value_of(probe)) <= search.bin);
    const int first = does == 0 ? 32 : __ffs(static_cast<int>(does)) - 1;
    const uint32_t below = __shfl_sync(kFullWarp, probe, max(first - 1, 0));
    const uint32_t at = __shfl_sync(kFullWarp, probe, min(first, 31));
    if (first < 32) search.to = at;
    search.from = first == 0 ? search.to : below + 1;
    return true;
  }
};

template <bool kIsWeighted>
__device__ __forceinline__ void add(Histogram& histogram, const int (&bin)[4], const Four& four,
                                    const Weights& weights) {
  uint64_t amounts[4] = {1, 1, 1, 1};
  if (kIsWeighted)
#pragma unroll
    for (int i = 0; i < 4; ++i) amounts[i] = __double2ull_rn(weights(four.values[i]) * kWeightUnit);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (bin[i] == kNoBin || amounts[i] == 0) continue;
    atomicAdd(&histogram.counts[bin[i]], 1u);
    if (kIsWeighted) add_weight(&histogram.low[bin[i]], &histogram.high[bin[i]], amounts[i]);
  }
}

struct Wanted {
  uint64_t amount;    // tokens, or units of weight
  double range;       // the first look is at so much below the best score, in equal bins
  bool looks_beyond;  // it; else all are taken where the amount is not reached within
};

// The lowest place that is taken when those of `leading` are taken from the highest on until their
// amounts reach what is wanted; 0: all are.
template <class Group, bool kIsWeighted>
__device__ __noinline__ uint64_t lowest_place(Histogram& histogram, Row row, Leading leading,
                                              Weights weights, float best, Wanted wanted) {
  const EqualBins bins{best, static_cast<float>((kBins - 1) / wanted.range)};
  row.for_each_of(leading, [&](const Four& four) {
    int bin[4];
    bool any = false;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      bin[i] = bins.of(four.values[i]);
      if (bin[i] == kBins - 1) bin[i] = kNoBin;
      any |= bin[i] != kNoBin;
    }
    if (any) add<kIsWeighted>(histogram, bin, four, weights);
  });
  find<Group>(histogram, wanted.amount, kIsWeighted);
  Found found = histogram.found;
  if (found.bin == kNoBin) {
    if (!wanted.looks_beyond) return 0;
    found.bin = kBins - 1;
  }
  auto [low, high] = bins.places(found.bin);
  // The bin found is cut into bins again, now by bits of the place, until it is taken whole or is
  // one token.
  while (found.count != 1 && found.amount != found.left && low < high) {
    const int shift = max(0, 64 - __clzll(static_cast<long long>(high - low)) - kBinBits);
    const float most = high >> kIdBits < key_of(best) ? score_of(high) : best;
    const Leading down_to(low);
    row.for_each_of(leading, [&](const Four& four) {
      int bin[4];
      bool any = false;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        bin[i] = kNoBin;
        if (!down_to.has(four.values[i], four.token + i) || four.values[i] > most) continue;
        const uint64_t place = place_of(four.values[i], four.token + i);
        if (place >= low && place <= high) bin[i] = static_cast<int>((high - place) >> shift);
        any |= bin[i] != kNoBin;
      }
      if (any) add<kIsWeighted>(histogram, bin, four, weights);
    });
    find<Group>(histogram, found.left, kIsWeighted);
    found = histogram.found;
    if (found.bin == kNoBin) break;
    high -= static_cast<uint64_t>(found.bin) << shift;
    const uint64_t width = uint64_t{1} << shift;
    if (high - low >= width) low = high - width + 1;
  }
  return low;
}

}  // namespace kvasir::kernels::sampling

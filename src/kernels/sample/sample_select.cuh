#pragma once
// Finds how far down the order of tokens a filter reaches: radix selection over a histogram of
// counts or weights. Weights are summed as integers, so that the result does not depend on the
// order in which they arrive.

#include "kernels/sample/sample_scores.cuh"

namespace kvasir::kernels::sampling {

constexpr int kBins = kThreads;  // a thread of the team's first block looks after one
constexpr int kBinBits = 9;
static_assert(kBins == 1 << kBinBits);
constexpr double kWeightUnit = 0x1p44;  // of a weight of 1; 2^18 of them fit 64 bits

struct Found {
  int bin;          // the first with which the sum reaches what is wanted; kBins: none does
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
};

// There is no 64-bit addition in shared memory; a carry is seen by who causes it.
__device__ inline void add_weight(uint32_t* low, uint32_t* high, uint64_t amount) {
  const auto part = static_cast<uint32_t>(amount);
  const uint32_t carry = atomicAdd(low, part) + part < part ? 1 : 0;
  const uint32_t rest = static_cast<uint32_t>(amount >> 32) + carry;
  if (rest != 0) atomicAdd(high, rest);
}

template <class Group, bool kIsWeighted>
class Selection {
 public:
  __device__ Selection(Histogram& histogram, const Team<Group>& team)
      : histogram_(histogram), team_(team) {}

  // The lowest place that is taken when places are taken from the highest on until their amounts
  // reach `wanted`; 0: all are. for_each(use) calls use(score, token) for each token of the lane's;
  // amount(score) is a token's. The first look is at `range` below the best score, cut into equal
  // bins; beyond it, tokens are looked at only where `looks_beyond`.
  template <class ForEach, class Amount>
  __device__ uint64_t lowest(float best, double range, uint64_t wanted, bool looks_beyond,
                             ForEach&& for_each, Amount&& amount) {
    const Equal bins{best, static_cast<float>((kBins - 1) / range)};
    for_each([&](float score, uint32_t) {
      const int bin = bins.of(score);
      if (bin < kBins - 1) add(bin, amount(score));
    });
    Found found = find(wanted);
    if (found.bin == kBins) {
      if (!looks_beyond) return 0;
      found.bin = kBins - 1;
    }
    uint64_t low = uint64_t{bins.lowest_key(found.bin, team_.lane())} << kIdBits;
    uint64_t high = found.bin == 0
                        ? ~uint64_t{0} >> (32 - kIdBits)
                        : (uint64_t{bins.lowest_key(found.bin - 1, team_.lane())} << kIdBits) - 1;
    // The bin found is cut into bins again, now by bits of the place, until it is taken whole or
    // is one token.
    while (found.count != 1 && found.amount != found.left && low < high) {
      const int shift = max(0, 64 - __clzll(static_cast<long long>(high - low)) - kBinBits);
      for_each([&](float score, uint32_t token) {
        const uint64_t place = place_of(score, token);
        if (place >= low && place <= high)
          add(static_cast<int>((high - place) >> shift), amount(score));
      });
      found = find(found.left);
      if (found.bin == kBins) break;
      high -= static_cast<uint64_t>(found.bin) << shift;
      const uint64_t width = uint64_t{1} << shift;
      if (high - low >= width) low = high - width + 1;
    }
    return low;
  }

 private:
  // Bins of equal width in the score, the best one first.
  struct Equal {
    float best, scale;
    __device__ int of(float score) const {
      return min(kBins - 1, __float2int_rz(__fmul_rn(__fsub_rn(best, score), scale)));
    }
    // The lowest key that falls into `bin` or one before it, by all lanes together.
    __device__ uint32_t lowest_key(int bin, int lane) const {
      if (bin == kBins - 1) return 0;
      uint32_t from = kLowestKey, to = key_of(best);  // the latter does
      for (;;) {
        const uint32_t probe =
            from + static_cast<uint32_t>(uint64_t{to - from} * static_cast<uint32_t>(lane) / 32);
        const uint32_t holds = __ballot_sync(kFullWarp, of(value_of(probe)) <= bin);
        const int first = holds == 0 ? 32 : __ffs(static_cast<int>(holds)) - 1;
        const uint32_t below = __shfl_sync(kFullWarp, probe, max(first - 1, 0));
        const uint32_t at = __shfl_sync(kFullWarp, probe, min(first, 31));
        if (first == 0) return from;
        if (first < 32) to = at;
        from = below + 1;
        if (from >= to) return to;
      }
    }
  };

  __device__ void add(int bin, uint64_t amount) {
    if (amount == 0) return;
    atomicAdd(&histogram_.counts[bin], 1u);
    if (kIsWeighted) add_weight(&histogram_.low[bin], &histogram_.high[bin], amount);
  }

  // Sums up the team's histograms in its first block, which looks for the bin; clears them.
  __device__ Found find(uint64_t wanted) {
    const int bin = static_cast<int>(threadIdx.x);
    __syncthreads();
    if (Group::rank() != 0) send(bin);
    Group::sync();
    if (Group::rank() == 0) search(bin, wanted);
    Group::sync();
    return histogram_.found;
  }

  __device__ void send(int bin) {
    const uint32_t count = histogram_.counts[bin];
    if (count == 0) return;
    atomicAdd(Group::at(&histogram_.counts[bin], 0), count);
    if (kIsWeighted)
      add_weight(Group::at(&histogram_.low[bin], 0), Group::at(&histogram_.high[bin], 0),
                 weight(bin));
    histogram_.clear(bin);
  }

  __device__ void search(int bin, uint64_t wanted) {
    const uint32_t count = histogram_.counts[bin];
    const uint64_t amount = kIsWeighted ? weight(bin) : count;
    histogram_.clear(bin);
    uint64_t sum = warp_scan(amount, team_.lane());
    if (team_.lane() == 31) histogram_.sums_of_warps[team_.warp()] = sum;
    __syncthreads();
    for (int warp = 0; warp < team_.warp(); ++warp) sum += histogram_.sums_of_warps[warp];
    const uint64_t before = sum - amount;
    if (before < wanted && wanted <= sum)
      tell({.bin = bin, .count = count, .left = wanted - before, .amount = amount});
    if (bin == kBins - 1 && sum < wanted)
      tell({.bin = kBins, .count = 0, .left = wanted - sum, .amount = 0});
  }

  __device__ void tell(const Found& found) {
    for (int rank = 0; rank < Group::kBlocks; ++rank) *Group::at(&histogram_.found, rank) = found;
  }
  __device__ uint64_t weight(int bin) const {
    return (uint64_t{histogram_.high[bin]} << 32) | histogram_.low[bin];
  }

  Histogram& histogram_;
  const Team<Group>& team_;
};

}  // namespace kvasir::kernels::sampling

#pragma once
// The thread blocks that choose one token together, and how their warps tell each other what they
// have found. Every warp owns a run of consecutive tokens of the vocabulary.

#include <cstdint>

#include "kernels/block_team.cuh"

namespace kvasir::kernels::sampling {

inline constexpr int kThreads = 512;
inline constexpr int kWarps = kThreads / 32;

constexpr uint32_t kFullWarp = 0xffffffff;

__device__ inline uint64_t warp_max(uint64_t value) {
  const uint32_t high = __reduce_max_sync(kFullWarp, static_cast<uint32_t>(value >> 32));
  const uint32_t low = __reduce_max_sync(
      kFullWarp, high == static_cast<uint32_t>(value >> 32) ? static_cast<uint32_t>(value) : 0);
  return (uint64_t{high} << 32) | low;
}
__device__ inline double warp_sum(double value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
  return value;
}
// The sum over lower lanes and this one.
template <class T>
__device__ T warp_scan(T value, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T below = __shfl_up_sync(kFullWarp, value, step);
    if (lane >= step) value += below;
  }
  return value;
}

// What one warp tells all others of its team.
struct alignas(16) Part {
  uint64_t first, second;
};

template <class Group>
struct Parts {
  static constexpr int kSlots = Group::kBlocks * kWarps;  // warps of the team, in order of tokens
  static constexpr int kSlotsOfLane = (kSlots + 31) / 32;
  // Two, so that one barrier a round will do: a warp writes again into what it has read two rounds
  // before, which every other warp has left by then.
  Part parts[2][kSlots];
};

template <class Group>
class Team {
 public:
  static constexpr int kSlots = Parts<Group>::kSlots;
  static constexpr int kSlotsOfLane = Parts<Group>::kSlotsOfLane;

  __device__ Team(Parts<Group>& shared, int64_t vocab) : shared_(shared) {
    constexpr int kTile = 128;
    const auto tiles = static_cast<uint32_t>((vocab + kSlots * kTile - 1) / (kSlots * kTile));
    tokens_of_slot_ = tiles * kTile;
    vocab_ = static_cast<uint32_t>(vocab);
  }
  static __device__ int lane() { return static_cast<int>(threadIdx.x % 32); }
  static __device__ int warp() { return static_cast<int>(threadIdx.x / 32); }
  static __device__ uint32_t slot() { return Group::rank() * kWarps + warp(); }

  // Every warp's part, which its lanes agree on, is known to all afterwards.
  __device__ void share(Part part) {
    round_ ^= 1;
    __syncwarp();
    if (lane() < Group::kBlocks) *Group::at(&shared_.parts[round_][slot()], lane()) = part;
    Group::sync();
  }
  // The i-th of the consecutive slots that a lane looks after.
  __device__ int slot_of_lane(int i) const { return lane() * kSlotsOfLane + i; }
  __device__ Part part_of_lane(int i) const {
    const int index = slot_of_lane(i);
    return index < kSlots ? shared_.parts[round_][index] : Part{};
  }

  // Tokens of a slot: [first_token, end_token), the first a multiple of 128.
  __device__ uint32_t first_token(uint32_t slot) const {
    return min(slot * tokens_of_slot_, vocab_);
  }
  __device__ uint32_t end_token(uint32_t slot) const {
    return min((slot + 1) * tokens_of_slot_, vocab_);
  }

 private:
  Parts<Group>& shared_;
  uint32_t tokens_of_slot_, vocab_;
  int round_ = 0;
};

}  // namespace kvasir::kernels::sampling

#pragma once
// Random numbers that are a pure function of their key: what is drawn for a sequence does not
// depend on what was drawn before. Whole numbers and exact sums only, so that every machine draws
// the same.

#include <bit>
#include <cstdint>
#include <initializer_list>

namespace kvasir::data {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
constexpr uint64_t mix_bits(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ x >> 27) * 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

constexpr uint64_t mix_key(std::initializer_list<uint64_t> key) {
  uint64_t mixed = 0x9E3779B97F4A7C15ull;
  for (const uint64_t part : key) mixed = mix_bits(mixed + part + 0x9E3779B97F4A7C15ull);
  return mixed;
}

class Random {
 public:
  explicit Random(std::initializer_list<uint64_t> key) : state_(mix_key(key)) {}

  uint64_t next() { return mix_bits(state_ += 0x9E3779B97F4A7C15ull); }
  // In [0, bound), bound > 0 and far below 2^64, so that the remainder's bias does not matter.
  int64_t below(int64_t bound) {
    return static_cast<int64_t>(next() % static_cast<uint64_t>(bound));
  }
  // In [0, 1), a multiple of 2^-53.
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // In [low, high], low > 0: doublings are equally likely, and evenly spread within each.
  int64_t by_doublings(int64_t low, int64_t high) {
    const double first = doublings(low), last = doublings(high + 1);
    const double at = first + unit() * (last - first);
    const auto whole = static_cast<int>(at);
    const auto value =
        static_cast<int64_t>((1 + (at - whole)) * static_cast<double>(1ull << whole));
    return value < low ? low : value > high ? high : value;
  }

 private:
  // log2, linear between powers of two.
  static double doublings(int64_t value) {
    const int whole = std::bit_width(static_cast<uint64_t>(value)) - 1;
    return whole + (static_cast<double>(value) / static_cast<double>(1ull << whole) - 1);
  }

  uint64_t state_;
};

// A permutation of [0, size) by key: `index` goes to the returned place. A Feistel network over the
// next power of four; what falls outside goes through it again.
inline int64_t permuted(int64_t index, int64_t size, uint64_t key) {
  const int half = (std::bit_width(static_cast<uint64_t>(size - 1)) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t mixed = left ^ (mix_key({key, round, right}) & mask);
      left = right;
      right = mixed;
    }
    value = left << half | right;
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

}  // namespace kvasir::data

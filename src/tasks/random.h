#pragma once
// The random numbers of all generators: SplitMix64, seeded by (seed, tag, index). Whole numbers
// only, so that samples are the same on every machine. tests/tasks/random_test.cpp holds goldens.

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace kvasir::tasks {

// FNV-1a of the bytes, 64 bits.
constexpr uint64_t fnv1a(std::string_view bytes, uint64_t hash = 0xCBF29CE484222325ull) {
  for (const char byte : bytes)
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3ull;
  return hash;
}

class Random {
 public:
  explicit Random(uint64_t state) : state_(state) {}
  // The stream of (seed, tag, index).
  Random(uint64_t seed, std::string_view tag, uint64_t index)
      : state_((finalise(seed + kStep) ^ fnv1a(tag)) + index * 0xD1342543DE82EF95ull) {}

  uint64_t next() { return finalise(state_ += kStep); }
  // In [0, bound), bound > 0, every value as likely.
  uint64_t below(uint64_t bound) {
    __extension__ using Wide = unsigned __int128;
    Wide product = Wide{next()} * bound;
    if (static_cast<uint64_t>(product) < bound) {
      const uint64_t least = (0 - bound) % bound;
      while (static_cast<uint64_t>(product) < least) product = Wide{next()} * bound;
    }
    return static_cast<uint64_t>(product >> 64);
  }
  // In [0, 1), a multiple of 2^-53.
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i-- > 1;) {
      const size_t j = below(i + 1);
      std::swap(items[i], items[j]);
    }
  }
  // `count` different numbers of [0, bound), in random order. count <= bound.
  std::vector<uint64_t> sample(uint64_t bound, uint64_t count);

 private:
  static constexpr uint64_t kStep = 0x9E3779B97F4A7C15ull;
  static constexpr uint64_t finalise(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

}  // namespace kvasir::tasks

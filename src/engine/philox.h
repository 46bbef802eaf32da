#pragma once
// Random numbers without state: Philox4x32-10, a bijection of a 128-bit counter under a 64-bit key
// (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A number is a function
// of its key and counter alone, so that results do not depend on what else runs.

#include <array>
#include <cstdint>

namespace kvasir::engine {

constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                         std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xd2511f53} * counter[0];
    const uint64_t b = uint64_t{0xcd9e8d57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9e3779b9;
    key[1] += 0xbb67ae85;
  }
  return counter;
}

// Uniform in [0, 1), 53 bits: the number that chooses the token at `position` of `sample`.
constexpr double uniform(uint64_t seed, uint32_t sample, uint64_t position) {
  const auto words =
      philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), sample, 0},
             {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[0]} << 32) | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace kvasir::engine

#pragma once
// SHA-256 (FIPS 180-4): what manifests name files by.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kvasir::data {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }
  // Of all that was added. The object is then used up.
  Digest digest();

 private:
  void block(const uint8_t* bytes);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> open_{};  // the block that is not full
  uint64_t size_ = 0;
};

// 64 hexadecimal digits.
std::string hex(const Sha256::Digest& digest);
std::string sha256_hex(std::string_view text);

}  // namespace kvasir::data

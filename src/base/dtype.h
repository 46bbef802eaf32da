#pragma once
// Element types of tensors, pages and files, and the conversions between them.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace kvasir {

enum class DType : uint8_t { kF32, kBF16, kF16 };

constexpr size_t dtype_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

constexpr std::string_view dtype_name(DType dtype) {
  return dtype == DType::kF32 ? "f32" : dtype == DType::kBF16 ? "bf16" : "f16";
}

// bf16 is the upper half of f32. Rounding is to nearest, ties to even; NaN stays NaN.
using bf16_t = uint16_t;
using f16_t = uint16_t;

inline float bf16_to_f32(bf16_t value) { return std::bit_cast<float>(uint32_t{value} << 16); }

inline bf16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((bits >> 16) | 0x40);
  return static_cast<bf16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// Rounded to nearest, ties to even; NaN stays NaN, what is too large becomes infinite.
inline f16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<f16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000u) return static_cast<f16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000u) {
    // Subnormal: the sum's last bits are what remains at a unit of 2^-24.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<f16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1);
  return static_cast<f16_t>(sign | rounded >> 13);
}

inline float f16_to_f32(f16_t value) {
  const uint32_t sign = uint32_t{value} >> 15 << 31;
  const uint32_t exponent = (value >> 10) & 0x1f;
  const uint32_t mantissa = value & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

// Element `i` of an array, at any alignment.
inline float read_f32(const std::byte* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, data + 4 * i, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, data + 2 * i, 2);
  return dtype == DType::kBF16 ? bf16_to_f32(half) : f16_to_f32(half);
}

}  // namespace kvasir

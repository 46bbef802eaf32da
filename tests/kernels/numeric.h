#pragma once
// Random tensors, and the distance between a result and its reference.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "base/cpu_info.h"
#include "base/dtype.h"

namespace kvasir::testing {

// Every instruction set that this machine runs, in ascending order.
inline std::vector<Isa> present_isas() {
  std::vector<Isa> present;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmxBf16})
    if (cpu_supports(isa)) present.push_back(isa);
  return present;
}

inline std::vector<float> normal_values(size_t count, uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline float element(const std::byte* data, DType dtype, int64_t i) {
  return read_f32(data, dtype, i);
}

// `value` rounded to the type.
inline void set_element(std::byte* data, DType dtype, int64_t i, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(data + i * 4, &value, 4);
    return;
  }
  const uint16_t half = dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
  std::memcpy(data + i * 2, &half, 2);
}

// A matrix whose rows lie `stride` elements apart; between them and behind the last there is NaN,
// so that whoever reads there spoils its result and whoever writes there is found out.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns, int64_t stride, DType dtype)
      : rows_(rows), columns_(columns), stride_(stride), dtype_(dtype) {
    const int64_t elements = rows == 0 ? 0 : (rows - 1) * stride + columns;
    bytes_.resize(elements * dtype_bytes(dtype));
    for (int64_t i = 0; i < elements; ++i)
      set_element(bytes_.data(), dtype, i, std::numeric_limits<float>::quiet_NaN());
  }
  Matrix(int64_t rows, int64_t columns, int64_t stride, DType dtype, uint32_t seed, float scale = 1)
      : Matrix(rows, columns, stride, dtype) {
    const std::vector<float> values = normal_values(rows * columns, seed, scale);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) set(i, j, values[i * columns + j]);
  }

  std::byte* data() { return bytes_.data(); }
  const std::byte* data() const { return bytes_.data(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::byte* row(int64_t i) const {
    return bytes_.data() + i * stride_ * static_cast<int64_t>(dtype_bytes(dtype_));
  }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t stride() const { return stride_; }
  DType dtype() const { return dtype_; }
  float at(int64_t i, int64_t j) const { return element(data(), dtype_, i * stride_ + j); }
  void set(int64_t i, int64_t j, float value) {
    set_element(data(), dtype_, i * stride_ + j, value);
  }
  bool gaps_untouched() const {
    for (int64_t i = 0; i + 1 < rows_; ++i)
      for (int64_t j = columns_; j < stride_; ++j)
        if (!std::isnan(at(i, j))) return false;
    return true;
  }

 private:
  int64_t rows_, columns_, stride_;
  DType dtype_;
  std::vector<std::byte> bytes_;
};

struct Bounds {
  double nmse = 0;     // sum of squared differences over sum of squares of the reference
  double maximum = 0;  // of |difference| / (1 + |reference|)
};

// Results of unit variance. f32: sums of up to a few thousand terms in one chain are off by up to
// 2^-24 sqrt(terms) of their size. bf16: both sides round to 8 bits, and now and then in opposite
// directions, where the f32 before lies near the middle. f16 rounds to 11 bits.
inline Bounds bounds_of(DType dtype) {
  if (dtype == DType::kF16) return Bounds{1e-7, 0x1p-9};
  return dtype == DType::kF32 ? Bounds{1e-11, 3e-5} : Bounds{1e-6, 0x1p-7};
}

inline void expect_close(const Matrix& found, const Matrix& expected, const Bounds& bounds) {
  double squares = 0, differences = 0, maximum = 0;
  for (int64_t i = 0; i < expected.rows(); ++i)
    for (int64_t j = 0; j < expected.columns(); ++j) {
      const double e = expected.at(i, j), difference = found.at(i, j) - e;
      ASSERT_FALSE(std::isnan(difference)) << "row " << i << ", column " << j;
      squares += e * e;
      differences += difference * difference;
      maximum = std::max(maximum, std::abs(difference) / (1 + std::abs(e)));
    }
  EXPECT_LE(differences, bounds.nmse * squares);
  EXPECT_LE(maximum, bounds.maximum);
  EXPECT_TRUE(found.gaps_untouched());
}

}  // namespace kvasir::testing

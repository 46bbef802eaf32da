#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace kvasir {
namespace {

TEST(DType, EveryF16ComesBackFromF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<f16_t>(bits));
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value)))) << bits;
    else
      EXPECT_EQ(f32_to_f16(value), bits);
  }
}

TEST(DType, F16IsRoundedToTheNearestTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float low = f16_to_f32(static_cast<f16_t>(bits));
    const float high = bits + 1 == 0x7c00 ? 65536.0f : f16_to_f32(static_cast<f16_t>(bits + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(f32_to_f16(middle), bits % 2 == 0 ? bits : bits + 1) << middle;
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, low)), bits) << middle;
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, high)), bits + 1) << middle;
    EXPECT_EQ(f32_to_f16(-std::nextafter(middle, high)), 0x8000 | (bits + 1)) << middle;
  }
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::max()), 0x7c00);
}

}  // namespace
}  // namespace kvasir

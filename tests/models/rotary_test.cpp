#include "models/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace kvasir::models {
namespace {

using formats::RopeConfig;
using formats::RopeScaling;

constexpr int kDim = 64;
constexpr double kTheta = 500000;
constexpr int64_t kPositions = 4096;

double plain(int i, double theta = kTheta) { return std::pow(theta, -2.0 * i / kDim); }

std::vector<float> frequencies(const RopeConfig& config, int64_t length = kPositions) {
  return Rotary(config, kDim, kPositions).inverse_frequencies(length);
}

// f32 rounding of the power, and of its inverse.
void expect_near(float found, double expected, const char* what, int i) {
  EXPECT_NEAR(found, expected, 4e-7 * expected) << what << " " << i;
}

TEST(Rotary, WithoutScaling) {
  const std::vector<float> found = frequencies({.theta = kTheta});
  ASSERT_EQ(found.size(), static_cast<size_t>(kDim / 2));
  EXPECT_EQ(found[0], 1);
  for (int i = 0; i < kDim / 2; ++i) expect_near(found[i], plain(i), "plain", i);
  EXPECT_EQ(frequencies({.theta = kTheta}, 100 * kPositions), found);
}

TEST(Rotary, LinearDividesEveryFrequency) {
  const std::vector<float> found =
      frequencies({.scaling = RopeScaling::kLinear, .theta = kTheta, .factor = 4});
  for (int i = 0; i < kDim / 2; ++i) expect_near(found[i], plain(i) / 4, "linear", i);
}

TEST(Rotary, DynamicStretchesTheBaseBeyondThePositionsOfTraining) {
  const RopeConfig config{.scaling = RopeScaling::kDynamic, .theta = kTheta, .factor = 2};
  EXPECT_EQ(Rotary(config, kDim, kPositions).usual_length(), kPositions);
  EXPECT_TRUE(Rotary(config, kDim, kPositions).depends_on_length());
  EXPECT_FALSE(Rotary({}, kDim, kPositions).depends_on_length());
  for (const int64_t length : {int64_t{1}, kPositions}) {
    const std::vector<float> found = frequencies(config, length);
    for (int i = 0; i < kDim / 2; ++i) expect_near(found[i], plain(i), "within", i);
  }
  // theta (factor L / positions - (factor - 1))^(dim / (dim - 2)), with L = 3 positions: 5.
  const double theta = kTheta * std::pow(5.0, 64.0 / 62.0);
  const std::vector<float> found = frequencies(config, 3 * kPositions);
  for (int i = 0; i < kDim / 2; ++i) expect_near(found[i], plain(i, theta), "beyond", i);
}

TEST(Rotary, Llama3KeepsShortWavesAndStretchesLongOnes) {
  const RopeConfig config{.scaling = RopeScaling::kLlama3,
                          .theta = kTheta,
                          .factor = 8,
                          .original_max_positions = 8192,
                          .low_freq_factor = 1,
                          .high_freq_factor = 4};
  const std::vector<float> found = frequencies(config);
  int kept = 0, between = 0, stretched = 0;
  for (int i = 0; i < kDim / 2; ++i) {
    const double wave = 2 * std::numbers::pi / plain(i);
    if (wave < 8192.0 / 4) {
      ++kept;
      expect_near(found[i], plain(i), "kept", i);
    } else if (wave > 8192.0) {
      ++stretched;
      expect_near(found[i], plain(i) / 8, "stretched", i);
    } else {
      ++between;
      const double smooth = (8192 / wave - 1) / (4 - 1);
      expect_near(found[i], plain(i) * ((1 - smooth) / 8 + smooth), "between", i);
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(between, 0);
  EXPECT_GT(stretched, 0);
}

TEST(Rotary, YarnRampsBetweenTheDimensionsOfBothBetas) {
  RopeConfig config{
      .scaling = RopeScaling::kYarn, .theta = 10000, .factor = 16, .original_max_positions = 4096};
  // A dimension turns beta times in 4,096 positions at dim ln(4096 / (2 pi beta)) / (2 ln theta).
  const auto dimension = [](double turns) {
    return kDim * std::log(4096 / (turns * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
  };
  for (const bool truncate : {true, false}) {
    config.truncate = truncate;
    double low = dimension(32), high = dimension(1);
    if (truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    const std::vector<float> found = frequencies(config);
    int kept = 0, between = 0, stretched = 0;
    for (int i = 0; i < kDim / 2; ++i) {
      const double frequency = plain(i, 10000);
      const double ramp = (i - low) / (high - low);
      if (ramp <= 0) {
        ++kept;
        expect_near(found[i], frequency, "kept", i);
      } else if (ramp >= 1) {
        ++stretched;
        expect_near(found[i], frequency / 16, "stretched", i);
      } else {
        ++between;
        expect_near(found[i], frequency * (ramp / 16 + 1 - ramp), "between", i);
      }
    }
    EXPECT_GT(kept, 0);
    EXPECT_GT(between, 0);
    EXPECT_GT(stretched, 0);
  }
}

TEST(Rotary, YarnAttentionFactor) {
  RopeConfig config{.scaling = RopeScaling::kYarn, .factor = 16, .original_max_positions = 4096};
  const auto factor = [&] { return Rotary(config, kDim, kPositions).attention_factor(); };
  EXPECT_DOUBLE_EQ(factor(), 0.1 * std::log(16.0) + 1);
  config.mscale = 1.5;  // counts only together with the other
  EXPECT_DOUBLE_EQ(factor(), 0.1 * std::log(16.0) + 1);
  config.mscale_all_dim = 0.5;
  EXPECT_DOUBLE_EQ(factor(), (0.15 * std::log(16.0) + 1) / (0.05 * std::log(16.0) + 1));
  config.attention_factor = 1.25;
  EXPECT_DOUBLE_EQ(factor(), 1.25);
  config = {.scaling = RopeScaling::kYarn, .factor = 1, .original_max_positions = 4096};
  EXPECT_DOUBLE_EQ(factor(), 1);
  EXPECT_DOUBLE_EQ(Rotary({.theta = kTheta}, kDim, kPositions).attention_factor(), 1);
}

RopeConfig longrope() {
  RopeConfig config{.scaling = RopeScaling::kLongRope,
                    .theta = kTheta,
                    .factor = 32,
                    .original_max_positions = 1024};
  for (int i = 0; i < kDim / 2; ++i) {
    config.short_factor.push_back(1 + 0.01 * i);
    config.long_factor.push_back(1 + i);
  }
  return config;
}

TEST(Rotary, LongRopeDividesEachFrequencyByTheFactorOfTheLength) {
  EXPECT_EQ(Rotary(longrope(), kDim, kPositions).usual_length(), 1024);
  for (const int64_t length : {1, 1024}) {
    const std::vector<float> found = frequencies(longrope(), length);
    for (int i = 0; i < kDim / 2; ++i) expect_near(found[i], plain(i) / (1 + 0.01 * i), "short", i);
  }
  for (const int64_t length : {1025, 100000}) {
    const std::vector<float> found = frequencies(longrope(), length);
    for (int i = 0; i < kDim / 2; ++i) expect_near(found[i], plain(i) / (1 + i), "long", i);
  }
}

TEST(Rotary, LongRopeAttentionFactor) {
  RopeConfig config = longrope();
  const auto factor = [&] { return Rotary(config, kDim, kPositions).attention_factor(); };
  EXPECT_DOUBLE_EQ(factor(), std::sqrt(1 + 5.0 / 10)) << "factor 2^5, 2^10 positions";
  config.attention_factor = 1.25;
  EXPECT_DOUBLE_EQ(factor(), 1.25);
  config = longrope();
  config.factor = 1;
  EXPECT_DOUBLE_EQ(factor(), 1);
}

TEST(Rotary, FillsCosinesThenSinesOfEachPosition) {
  RopeConfig config{.scaling = RopeScaling::kYarn,
                    .factor = 4,
                    .original_max_positions = 1024,
                    .attention_factor = 1.5,
                    .partial_rotary_factor = 0.5};
  const Rotary rotary(config, kDim, kPositions);
  ASSERT_EQ(rotary.rotary_dim(), 32);
  const std::vector<float> frequency = rotary.inverse_frequencies(kPositions);
  ASSERT_EQ(frequency.size(), 16u);
  std::vector<float> all(40 * 32), tail(8 * 32);
  rotary.fill(1000, 40, kPositions, all.data());
  for (int row = 0; row < 40; ++row)
    for (int i = 0; i < 16; ++i) {
      const double angle = static_cast<float>(1000 + row) * frequency[i];
      EXPECT_NEAR(all[row * 32 + i], 1.5 * std::cos(angle), 2e-7) << row << " " << i;
      EXPECT_NEAR(all[row * 32 + 16 + i], 1.5 * std::sin(angle), 2e-7) << row << " " << i;
    }
  rotary.fill(1032, 8, kPositions, tail.data());
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), all.begin() + 32 * 32));
}

TEST(Rotary, FillFollowsTheLengthWhereTheScalingDoes) {
  RopeConfig alike = longrope();
  alike.attention_factor = 1;
  for (const RopeConfig& config :
       {RopeConfig{.scaling = RopeScaling::kDynamic, .theta = kTheta, .factor = 2}, alike}) {
    const Rotary rotary(config, kDim, kPositions);
    for (const int64_t length : {int64_t{1024}, int64_t{1025}, kPositions, 2 * kPositions}) {
      std::vector<float> row(kDim);
      rotary.fill(77, 1, length, row.data());
      const std::vector<float> frequency = rotary.inverse_frequencies(length);
      for (int i = 0; i < kDim / 2; ++i)
        EXPECT_NEAR(row[i], std::cos(77.0f * frequency[i]), 1e-6) << length << " " << i;
    }
  }
}

TEST(Rotary, DescribesItself) {
  EXPECT_EQ(Rotary({}, kDim, kPositions).describe(), "none");
  EXPECT_EQ(Rotary({.scaling = RopeScaling::kLlama3, .factor = 8, .original_max_positions = 8192},
                   kDim, kPositions)
                .describe(),
            "llama3 (factor 8)");
  EXPECT_EQ(Rotary(longrope(), kDim, kPositions).describe(), "longrope (from 1025 tokens on)");
}

}  // namespace
}  // namespace kvasir::models

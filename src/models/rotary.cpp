#include "models/rotary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace kvasir::models {

using formats::RopeConfig;
using formats::RopeScaling;

namespace {

// `divisors`: of each frequency; empty = none.
std::vector<float> plain_frequencies(double theta, int dim, std::span<const double> divisors) {
  std::vector<float> frequencies(dim / 2);
  for (int i = 0; i < dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    const float power = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    frequencies[i] = 1.0f / (divisors.empty() ? power : static_cast<float>(divisors[i]) * power);
  }
  return frequencies;
}

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between
// interpolated.
void scale_llama3(const RopeConfig& config, std::vector<float>& frequencies) {
  const double original = static_cast<double>(config.original_max_positions);
  const double low_wavelength = original / config.low_freq_factor;
  const double high_wavelength = original / config.high_freq_factor;
  for (float& frequency : frequencies) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < high_wavelength) continue;
    const double stretched = frequency / config.factor;
    if (wavelength > low_wavelength) {
      frequency = static_cast<float>(stretched);
      continue;
    }
    const double smooth = (original / wavelength - config.low_freq_factor) /
                          (config.high_freq_factor - config.low_freq_factor);
    frequency = static_cast<float>((1 - smooth) * stretched + smooth * frequency);
  }
}

// YaRN (Peng et al. 2023, section 3.2): a linear ramp between dimensions that turn `beta_slow` and
// `beta_fast` times within the original context.
void scale_yarn(const RopeConfig& config, int dim, std::vector<float>& frequencies) {
  const auto correction = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(config.original_max_positions) /
                    (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  double low = correction(config.beta_fast);
  double high = correction(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  for (int i = 0; i < dim / 2; ++i) {
    const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
    const double kept = 1 - ramp;
    frequencies[i] =
        static_cast<float>(frequencies[i] / config.factor * (1 - kept) + frequencies[i] * kept);
  }
}

double yarn_attention_factor(const RopeConfig& config) {
  if (config.attention_factor) return *config.attention_factor;
  const auto scale = [&](double weight) {
    return config.factor <= 1 ? 1.0 : 0.1 * weight * std::log(config.factor) + 1;
  };
  const double mscale = config.mscale.value_or(0), all_dim = config.mscale_all_dim.value_or(0);
  return mscale != 0 && all_dim != 0 ? scale(mscale) / scale(all_dim) : scale(1);
}

double longrope_attention_factor(const RopeConfig& config) {
  if (config.attention_factor) return *config.attention_factor;
  if (config.factor <= 1) return 1;
  const double original = static_cast<double>(config.original_max_positions);
  return std::sqrt(1 + std::log(config.factor) / std::log(original));
}

}  // namespace

Rotary::Rotary(const RopeConfig& config, int64_t head_dim, int64_t max_positions)
    : config_(config),
      max_positions_(max_positions),
      rotary_dim_(static_cast<int>(formats::rotary_dim(config, head_dim))) {
  if (config.scaling == RopeScaling::kYarn) attention_factor_ = yarn_attention_factor(config);
  if (config.scaling == RopeScaling::kLongRope)
    attention_factor_ = longrope_attention_factor(config);
  frequencies_ = inverse_frequencies(usual_length());
  if (config.scaling == RopeScaling::kLongRope)
    long_frequencies_ = inverse_frequencies(usual_length() + 1);
}

int64_t Rotary::usual_length() const {
  switch (config_.scaling) {
    case RopeScaling::kDynamic:
      return max_positions_;
    case RopeScaling::kLongRope:
      return config_.original_max_positions;
    default:
      return INT64_MAX;
  }
}

std::vector<float> Rotary::inverse_frequencies(int64_t length) const {
  double theta = config_.theta;
  if (config_.scaling == RopeScaling::kDynamic) {
    const double positions = static_cast<double>(max_positions_);
    const double seen = static_cast<double>(std::max(length, max_positions_));
    const double dim = rotary_dim_;
    theta *= std::pow(config_.factor * seen / positions - (config_.factor - 1), dim / (dim - 2));
  }
  // LongRoPE (Ding et al. 2024): a divisor of each frequency, found by search, for sequences within
  // the original context and another one for longer ones; both lists are empty otherwise.
  std::vector<float> frequencies = plain_frequencies(
      theta, rotary_dim_, length > usual_length() ? config_.long_factor : config_.short_factor);
  switch (config_.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kDynamic:
    case RopeScaling::kLongRope:
      break;
    case RopeScaling::kLinear:
      for (float& frequency : frequencies)
        frequency = static_cast<float>(frequency / config_.factor);
      break;
    case RopeScaling::kLlama3:
      scale_llama3(config_, frequencies);
      break;
    case RopeScaling::kYarn:
      scale_yarn(config_, rotary_dim_, frequencies);
      break;
  }
  return frequencies;
}

void Rotary::fill(int64_t first, int64_t count, int64_t length, float* out) const {
  const bool is_long = length > usual_length();
  const std::vector<float> own =
      is_long && long_frequencies_.empty() ? inverse_frequencies(length) : std::vector<float>();
  const std::vector<float>& frequencies = !is_long      ? frequencies_
                                          : own.empty() ? long_frequencies_
                                                        : own;
  const int half = rotary_dim_ / 2;
  const float factor = static_cast<float>(attention_factor_);
  for (int64_t row = 0; row < count; ++row, out += rotary_dim_) {
    const float position = static_cast<float>(first + row);
    for (int i = 0; i < half; ++i) {
      const double angle = position * frequencies[i];  // rounded to f32 first
      out[i] = static_cast<float>(std::cos(angle)) * factor;
      out[half + i] = static_cast<float>(std::sin(angle)) * factor;
    }
  }
}

std::string Rotary::describe() const {
  switch (config_.scaling) {
    case RopeScaling::kNone:
      return "none";
    case RopeScaling::kLinear:
      return fmt::format("linear (factor {:g})", config_.factor);
    case RopeScaling::kDynamic:
      return fmt::format("dynamic (factor {:g})", config_.factor);
    case RopeScaling::kLlama3:
      return fmt::format("llama3 (factor {:g})", config_.factor);
    case RopeScaling::kYarn:
      return fmt::format("yarn (factor {:g})", config_.factor);
    case RopeScaling::kLongRope:
      return fmt::format("longrope (from {} tokens on)", config_.original_max_positions + 1);
  }
  return "none";
}

}  // namespace kvasir::models

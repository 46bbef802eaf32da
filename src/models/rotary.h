#pragma once
// Rotary position embedding: frequencies under each scaling, and the cosines and sines of
// positions. Frequencies and angles are rounded to f32 where transformers rounds them, so that long
// positions agree with the models' training.

#include <cstdint>
#include <string>
#include <vector>

#include "formats/model_config.h"

namespace kvasir::models {

class Rotary {
 public:
  Rotary(const formats::RopeConfig& config, int64_t head_dim, int64_t max_positions);

  int rotary_dim() const { return rotary_dim_; }
  // Up to this length, frequencies do not depend on the sequence's length. Beyond it each length
  // has its own ("dynamic" scaling) or all longer ones share a second set ("longrope"). INT64_MAX:
  // they never do.
  int64_t usual_length() const;
  bool depends_on_length() const { return usual_length() != INT64_MAX; }

  // Writes rotary_dim/2 cosines and then as many sines (scaled by the attention factor of YaRN and
  // LongRoPE) for each position first, first + 1, ...: out [count, rotary_dim]. `length`: of the
  // sequence, for scalings that depend on it.
  void fill(int64_t first, int64_t count, int64_t length, float* out) const;

  // The inverse frequencies for a sequence of `length`: [rotary_dim / 2].
  std::vector<float> inverse_frequencies(int64_t length) const;
  double attention_factor() const { return attention_factor_; }

  std::string describe() const;  // "none", "llama3 (factor 8)"

 private:
  formats::RopeConfig config_;
  int64_t max_positions_;
  int rotary_dim_;
  double attention_factor_ = 1;
  std::vector<float> frequencies_;       // up to usual_length()
  std::vector<float> long_frequencies_;  // longrope: beyond it
};

}  // namespace kvasir::models

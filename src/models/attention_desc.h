#pragma once
// What the attention kernels need to know of a model.

#include <cmath>

#include "formats/model_config.h"
#include "kernels/paged_attention/attention_desc.h"

namespace kvasir::models {

inline kernels::AttentionDesc attention_desc(const formats::ModelConfig& config, DType dtype) {
  return {.dtype = dtype,
          .q_heads = static_cast<int>(config.num_q_heads),
          .kv_heads = static_cast<int>(config.num_kv_heads),
          .head_dim = static_cast<int>(config.head_dim)};
}

inline float attention_scale(const formats::ModelConfig& config) {
  return static_cast<float>(1 / std::sqrt(static_cast<double>(config.head_dim)));
}

}  // namespace kvasir::models

#pragma once
// What a training step must compute, for model FLOP utilisation.

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/model_config.h"

namespace kvasir::train {

// Of forward and backward over one row, as is customary: 6 for each weight of a matrix (the head's
// too, the embedding's not), and for attention 12 * layers * q_heads * head_dim for each key that a
// row sees. What is computed again is not counted.
double flops_per_row(const formats::ModelConfig& config, double keys_per_row);

// Keys that a row sees on average: documents as in Batch.
double keys_per_row(std::span<const int32_t> documents);

// Highest rate of dense bf16 products that the vendor states, FLOP/s; 0: unknown.
double peak_flops(std::string_view device_name);

}  // namespace kvasir::train

#pragma once
// A threshold for each head of a model, as a file that XAttention reads:
//
//   {"schema": "kvasir-xattention/1", "stride": 8, "thresholds": [[0.9, 0.73], ...]}
//
// one list for each layer.

#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir::prefill::xattention {

inline constexpr const char* kThresholdsFile = "xattention.json";
inline constexpr const char* kThresholdsSchema = "kvasir-xattention/1";

struct Thresholds {
  int layers = 0, q_heads = 0, stride = 8;
  std::vector<float> heads;  // [layers, q_heads], each above 0 and at most 1
};

// Errors: kMalformed.
Result<Thresholds> parse_thresholds(std::string_view text, std::string_view origin);

}  // namespace kvasir::prefill::xattention

#pragma once
// A threshold for each head of a model: the file that XAttention reads, and the search for them.
//
//   {"schema": "kvasir-xattention/1", "stride": 8, "thresholds": [[0.9, 0.73], ...]}
//
// one list for each layer.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "prefill/plan_meter.h"

namespace kvasir::prefill::xattention {

inline constexpr const char* kThresholdsFile = "xattention.json";
inline constexpr const char* kThresholdsSchema = "kvasir-xattention/1";

struct Thresholds {
  int layers = 0, q_heads = 0, stride = 8;
  std::vector<float> heads;  // [layers, q_heads], each above 0 and at most 1
};

// Errors: kMalformed.
Result<Thresholds> parse_thresholds(std::string_view text, std::string_view origin);

struct ThresholdSearch {
  int stride = 8;
  double recall = 0.95;  // mean over rows that each head has to keep, above 0 and at most 1
  int64_t chunk = 8192;  // rows that are planned together
};

struct ThresholdChoice {
  double threshold = 1;
  HeadMeasure measure;  // with it
};

// The least threshold of each head that keeps its recall, found by halving: [q_heads]. 1 where none
// does. Instead of the paper's dynamic program (section 3.3), which spends one budget of accuracy
// over all heads and needs an evaluation a step: each head by itself, by what attention it keeps.
// `between` as in PlanMeter.
std::vector<ThresholdChoice> search_thresholds(const kernels::CpuContext& context,
                                               const ThresholdSearch& options,
                                               const LayerQueries& queries,
                                               const DenseResult& dense,
                                               const PlanMeter::Between& between);

}  // namespace kvasir::prefill::xattention

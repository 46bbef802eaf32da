#pragma once
// The search for a threshold for each head of a layer.

#include <vector>

#include "prefill/plan_meter.h"

namespace kvasir::prefill::xattention {

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

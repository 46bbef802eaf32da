#include "prefill/xattention/thresholds.h"

#include <algorithm>

#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

constexpr double kLeastThreshold = 0.05;
constexpr int kHalvings = 6;

}  // namespace

std::vector<ThresholdChoice> search_thresholds(const kernels::CpuContext& context,
                                               const ThresholdSearch& options,
                                               const LayerQueries& queries,
                                               const DenseResult& dense,
                                               const PlanMeter::Between& between) {
  PlanMeter meter(context, queries, dense, options.chunk);
  const size_t heads = meter.heads();
  Options tried{.stride = options.stride};
  tried.head_thresholds.resize((static_cast<size_t>(queries.layer) + 1) * heads);
  const auto mine = std::span(tried.head_thresholds).last(heads);
  const PlanMeter::MakePlan make = [&](const LayerQueries& part, Workspace& workspace,
                                       PlanBuffer& plan) {
    plan_layer(context, tried, part, workspace, plan);
  };
  std::vector<ThresholdChoice> choices(heads);
  std::ranges::fill(mine, 1.0f);
  int round = 0;
  const PlanMeter::Between step = [&](double share) {
    if (between) between((round + share) / (kHalvings + 1));
  };
  const auto measure = [&] {
    const std::vector<HeadMeasure> found = meter.measure(make, {}, step);
    for (size_t head = 0; head < heads; ++head)
      if (found[head].recall >= options.recall) choices[head] = {double{mine[head]}, found[head]};
    ++round;
    return found;
  };
  const std::vector<HeadMeasure> whole = measure();
  for (size_t head = 0; head < heads; ++head) choices[head] = {1, whole[head]};
  std::vector<double> least(heads, kLeastThreshold), most(heads, 1);
  for (int halving = 0; halving < kHalvings; ++halving) {
    for (size_t head = 0; head < heads; ++head)
      mine[head] = static_cast<float>((least[head] + most[head]) / 2);
    const std::vector<HeadMeasure> found = measure();
    for (size_t head = 0; head < heads; ++head)
      (found[head].recall >= options.recall ? most : least)[head] = double{mine[head]};
  }
  return choices;
}

}  // namespace kvasir::prefill::xattention

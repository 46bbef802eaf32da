#include "prefill/xattention/thresholds.h"

#include <algorithm>

#include "formats/config_reader.h"
#include "formats/json_text.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

using nlohmann::json;

constexpr double kLeastThreshold = 0.05;
constexpr int kHalvings = 6;

Thresholds read(const json& object, const std::string& origin) {
  if (!object.is_object())
    throw Error(ErrorCode::kMalformed, "expected a JSON object, found another value", origin);
  const formats::ConfigReader reader(object, origin);
  if (reader.text("schema", "") != kThresholdsSchema)
    reader.fail("schema", kThresholdsSchema, reader.text("schema", "none"));
  Thresholds found;
  found.stride = static_cast<int>(reader.integer("stride", 8, 16, found.stride));
  if (found.stride != 8 && found.stride != 16)
    reader.fail("stride", "8 or 16", std::to_string(found.stride));
  if (!reader.has("thresholds") || !reader.at("thresholds").is_array())
    reader.fail("thresholds", "a list of layers", "none");
  for (const json& layer : reader.at("thresholds")) {
    const bool is_first = found.layers++ == 0;
    if (!layer.is_array()) reader.fail("thresholds", "a list for each layer", layer.dump());
    if (is_first) found.q_heads = static_cast<int>(layer.size());
    if (static_cast<int>(layer.size()) != found.q_heads)
      reader.fail("thresholds", "as many heads in each layer", layer.dump());
    for (const json& each : layer) {
      const double value = each.is_number() ? each.get<double>() : 0;
      if (!(value > 0 && value <= 1))
        reader.fail("thresholds", "numbers above 0 and at most 1", each.dump());
      found.heads.push_back(static_cast<float>(value));
    }
  }
  return found;
}

}  // namespace

Result<Thresholds> parse_thresholds(std::string_view text, std::string_view origin) {
  return formats::read_json<Thresholds>(text, origin, "a JSON object", read);
}

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

#include "prefill/minference/planner.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "formats/head_config.h"
#include "prefill/minference/minference.h"
#include "prefill/options.h"

namespace kvasir::prefill::minference {
namespace {

class MInference final : public QueryPlanner {
 public:
  MInference(const Options& options, formats::HeadConfig config, const ModelShape& model)
      : QueryPlanner(options.index == IndexMode::kReference ? 64 : 128),
        options_(options),
        config_(std::move(config)),
        q_heads_(model.q_heads) {
    for (int layer = 0; layer < model.layers; ++layer)
      for (int head = 0; head < model.q_heads; ++head) budgets_.push_back(budget(layer, head));
  }

  std::optional<GpuRecipe> gpu_recipe(int layer) const override {
    const auto heads = static_cast<size_t>(q_heads_);
    return MinferenceRecipe{
        .heads = std::span(budgets_).subspan(static_cast<size_t>(layer) * heads, heads),
        .mass = static_cast<float>(options_.mass),
        .densest = options_.densest,
        .blocks = static_cast<int32_t>(options_.blocks.blocks)};
  }
  std::optional<std::string> gpu_refusal() const override {
    if (options_.index == IndexMode::kReference) return "index=reference";
    return std::nullopt;
  }

 private:
  Report plan_heads(const PlanSite& site, const LayerQueries& queries,
                    PlanBuffer& plan) const override {
    return plan_layer(*site.context, options_, config_, queries, *site.workspace, plan);
  }

  kernels::HeadBudget budget(int layer, int head) const {
    const formats::HeadPattern pattern = config_.at(layer, head);
    const auto scaled = [this](int32_t tokens) {
      return static_cast<int32_t>(std::min(tokens * options_.ratio, 1e9));
    };
    switch (pattern.kind) {
      case formats::HeadPatternKind::kVerticalSlash:
        return {kernels::HeadKind::kVerticalSlash, scaled(pattern.first), scaled(pattern.second)};
      case formats::HeadPatternKind::kAShape:
        return {kernels::HeadKind::kAShape, pattern.first, std::max(1, pattern.second)};
      case formats::HeadPatternKind::kBlockSparse:
        break;
    }
    return {.kind = kernels::HeadKind::kBlockSparse};
  }

  const Options options_;
  const formats::HeadConfig config_;
  const int q_heads_;
  std::vector<kernels::HeadBudget> budgets_;  // [layers, q_heads]
};

Result<formats::HeadConfig> read_config(const std::filesystem::path& path,
                                        const formats::HeadCounts& counts) {
  auto text = read_file(path);
  if (!text) return text.error();
  return formats::parse_head_config(text.value(), path.string(), counts);
}

Result<formats::HeadConfig> find_config(const MethodChoice& choice, const ModelShape& model) {
  const formats::HeadCounts counts{.layers = model.layers, .q_heads = model.q_heads};
  if (const auto named = choice.options.find("config"); named != choice.options.end())
    return read_config(named->second, counts);
  if (model.folder.empty()) return formats::HeadConfig{};
  auto found = formats::find_head_config(model.folder, counts);
  if (!found) return found.error();
  return found.value().value_or(formats::HeadConfig{});
}

}  // namespace

Result<void> check_ratio(std::string_view value) { return check_number(value, 1000); }

Result<void> check_index(std::string_view value) {
  if (value == "relative" || value == "reference") return {};
  return Error(ErrorCode::kInvalidArgument,
               "expected relative or reference, found \"" + std::string(value) + "\"");
}

Result<std::shared_ptr<const Planner>> make_minference(const MethodChoice& choice,
                                                       const ModelShape& model) {
  auto config = find_config(choice, model);
  if (!config) return config.error();
  Options options;
  options.ratio = number_option(choice, "ratio", options.ratio);
  options.mass = number_option(choice, "mass", options.mass);
  options.densest = number_option(choice, "densest", options.densest);
  if (const auto index = choice.options.find("index"); index != choice.options.end())
    options.index = index->second == "reference" ? IndexMode::kReference : IndexMode::kRelative;
  return std::shared_ptr<const Planner>(
      std::make_shared<MInference>(options, std::move(config).value(), model));
}

}  // namespace kvasir::prefill::minference

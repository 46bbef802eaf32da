#include "prefill/xattention/planner.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/file.h"
#include "prefill/options.h"
#include "prefill/xattention/thresholds_file.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

class XAttention final : public QueryPlanner {
 public:
  XAttention(Options options, int q_heads)
      : QueryPlanner(128), options_(std::move(options)), q_heads_(static_cast<size_t>(q_heads)) {}

  std::optional<GpuRecipe> gpu_recipe(int layer) const override {
    std::span<const float> of_heads = options_.head_thresholds;
    if (!of_heads.empty())
      of_heads = of_heads.subspan(static_cast<size_t>(layer) * q_heads_, q_heads_);
    return XAttentionRecipe{.stride = options_.stride,
                            .threshold = static_cast<float>(options_.threshold),
                            .head_thresholds = of_heads,
                            .densest = options_.densest};
  }

 private:
  Report plan_heads(const PlanSite& site, const LayerQueries& queries,
                    PlanBuffer& plan) const override {
    return plan_layer(*site.context, options_, queries, *site.workspace, plan);
  }

  const Options options_;
  const size_t q_heads_;
};

Result<std::optional<Thresholds>> find_thresholds(const MethodChoice& choice,
                                                  const ModelShape& model) {
  const auto named = choice.options.find("thresholds");
  const bool is_named = named != choice.options.end();
  if (!is_named && (model.folder.empty() || choice.options.contains("threshold")))
    return std::optional<Thresholds>();
  const std::filesystem::path path =
      is_named ? std::filesystem::path(named->second) : model.folder / kThresholdsFile;
  const auto text = read_file(path);
  if (!text && text.error().code() == ErrorCode::kNotFound && !is_named)
    return std::optional<Thresholds>();
  if (!text) return text.error();
  auto parsed = parse_thresholds(text.value(), path.string());
  if (!parsed) return parsed.error();
  const Thresholds& thresholds = parsed.value();
  if (thresholds.layers != model.layers || thresholds.q_heads != model.q_heads)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected thresholds of {} layers with {} heads, those of the model, "
                             "found {} with {}",
                             model.layers, model.q_heads, thresholds.layers, thresholds.q_heads),
                 path.string());
  return std::optional(std::move(parsed).value());
}

}  // namespace

Result<void> check_stride(std::string_view value) {
  if (value == "8" || value == "16") return {};
  return Error(ErrorCode::kInvalidArgument,
               "expected 8 or 16, found \"" + std::string(value) + "\"");
}

Result<std::shared_ptr<const Planner>> make_xattention(const MethodChoice& choice,
                                                       const ModelShape& model) {
  auto found = find_thresholds(choice, model);
  if (!found) return found.error();
  Options options;
  if (found.value()) {
    options.stride = found.value()->stride;
    options.head_thresholds = found.value()->heads;
  }
  options.stride = tokens_option(choice, "stride", options.stride);
  options.threshold = number_option(choice, "threshold", options.threshold);
  options.densest = number_option(choice, "densest", options.densest);
  return std::shared_ptr<const Planner>(
      std::make_shared<XAttention>(std::move(options), model.q_heads));
}

}  // namespace kvasir::prefill::xattention

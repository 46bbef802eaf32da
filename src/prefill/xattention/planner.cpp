#include "prefill/xattention/planner.h"

#include "prefill/options.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

class XAttention final : public QueryPlanner {
 public:
  explicit XAttention(const Options& options) : QueryPlanner(128), options_(options) {}

  std::optional<GpuRecipe> gpu_recipe(int /*layer*/) const override {
    return XAttentionRecipe{.stride = options_.stride,
                            .threshold = static_cast<float>(options_.threshold),
                            .densest = options_.densest};
  }

 private:
  Report plan_heads(const PlanSite& site, const LayerQueries& queries,
                    PlanBuffer& plan) const override {
    return plan_layer(*site.context, options_, queries, *site.workspace, plan);
  }

  const Options options_;
};

}  // namespace

Result<void> check_stride(std::string_view value) {
  if (value == "8" || value == "16") return {};
  return Error(ErrorCode::kInvalidArgument,
               "expected 8 or 16, found \"" + std::string(value) + "\"");
}

std::shared_ptr<const Planner> make_xattention(const MethodChoice& choice) {
  Options options;
  options.stride = tokens_option(choice, "stride", options.stride);
  options.threshold = number_option(choice, "threshold", options.threshold);
  options.densest = number_option(choice, "densest", options.densest);
  return std::make_shared<XAttention>(options);
}

}  // namespace kvasir::prefill::xattention

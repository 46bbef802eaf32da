#include "prefill/flexprefill/planner.h"

#include "prefill/flexprefill/flexprefill.h"
#include "prefill/options.h"

namespace kvasir::prefill::flexprefill {
namespace {

class FlexPrefill final : public QueryPlanner {
 public:
  explicit FlexPrefill(const Options& options) : QueryPlanner(128), options_(options) {}

  std::optional<GpuRecipe> gpu_recipe(int /*layer*/) const override {
    return FlexPrefillRecipe{.gamma = options_.gamma,
                             .tau = options_.tau,
                             .min_blocks = static_cast<int32_t>(options_.min_blocks),
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

std::shared_ptr<const Planner> make_flexprefill(const MethodChoice& choice) {
  Options options;
  options.gamma = number_option(choice, "gamma", options.gamma);
  options.tau = number_option(choice, "tau", options.tau);
  options.min_blocks =
      tokens_option(choice, "min_blocks", static_cast<int32_t>(options.min_blocks));
  options.densest = number_option(choice, "densest", options.densest);
  return std::make_shared<FlexPrefill>(options);
}

}  // namespace kvasir::prefill::flexprefill

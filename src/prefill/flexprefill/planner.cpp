#include "prefill/flexprefill/planner.h"

#include "prefill/flexprefill/flexprefill.h"
#include "prefill/options.h"

namespace kvasir::prefill::flexprefill {
namespace {

class FlexPrefill final : public Planner {
 public:
  explicit FlexPrefill(const Options& options) : options_(options) {}

  Planned plan(const PlanSite& site, PlanBuffer& plan) const override {
    if (site.rows < kFewestPlannedRows) return {};
    plan.clear();
    plan.row_tile = 128;
    return {.rows = {0, site.rows},
            .report = plan_layer(*site.context, options_, site.queries(plan.row_tile),
                                 *site.workspace, plan)};
  }
  bool plans_from_queries() const override { return true; }
  std::optional<std::string> gpu_refusal() const override { return "flexprefill"; }

 private:
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

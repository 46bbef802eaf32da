#include "prefill/xattention/planner.h"

#include <string>

#include "prefill/options.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

class XAttention final : public Planner {
 public:
  explicit XAttention(const Options& options) : options_(options) {}

  Planned plan(const PlanSite& site, PlanBuffer& plan) const override {
    if (site.rows < kFewestPlannedRows) return {};
    plan.clear();
    plan.row_tile = 128;
    return {.rows = {0, site.rows},
            .report = plan_layer(*site.context, options_, site.queries(plan.row_tile),
                                 *site.workspace, plan)};
  }
  bool plans_from_queries() const override { return true; }
  std::optional<std::string> gpu_refusal() const override { return "xattention"; }

 private:
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

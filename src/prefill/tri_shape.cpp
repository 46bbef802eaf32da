#include "prefill/tri_shape.h"

#include <algorithm>

#include "prefill/a_shape.h"
#include "prefill/options.h"

namespace kvasir::prefill {
namespace {

constexpr TriShape kDefault{.init = 128, .local = 4096, .last = 128};

class TriShapePlanner final : public Planner {
 public:
  explicit TriShapePlanner(const TriShape& shape) : shape_(shape) {}

  Planned plan(const PlanSite& site, PlanBuffer& plan) const override {
    return {.rows = shape_.plan(site, plan)};
  }

 private:
  const TriShape shape_;
};

}  // namespace

RowRange TriShape::plan(const PlanSite& site, PlanBuffer& plan) const {
  const int64_t before_last = site.prompt_length - last - site.query_offset;
  return plan_a_shape(init, local, site, std::min(site.rows, before_last), plan);
}

std::shared_ptr<const Planner> make_tri_shape(const MethodChoice& choice) {
  const TriShape shape{.init = tokens_option(choice, "init", kDefault.init),
                       .local = tokens_option(choice, "local", kDefault.local),
                       .last = tokens_option(choice, "last", kDefault.last)};
  return std::make_shared<TriShapePlanner>(shape);
}

}  // namespace kvasir::prefill

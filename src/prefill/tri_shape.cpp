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

  int64_t plan(const PlanSite& site, PlanBuffer& plan) const override {
    return shape_.plan(site, plan);
  }

 private:
  const TriShape shape_;
};

}  // namespace

int64_t TriShape::plan(const PlanSite& site, PlanBuffer& plan) const {
  const int64_t before_last =
      std::clamp<int64_t>(site.prompt_length - last - site.query_offset, 0, site.rows);
  PlanSite sparse = site;
  sparse.rows = before_last;
  if (before_last == 0 || a_shape_is_dense(sparse, init, local)) return 0;
  plan_a_shape(init, local, site.q_heads, plan);
  return before_last;
}

std::shared_ptr<const Planner> make_tri_shape(const MethodChoice& choice) {
  const TriShape shape{.init = tokens_option(choice, "init", kDefault.init),
                       .local = tokens_option(choice, "local", kDefault.local),
                       .last = tokens_option(choice, "last", kDefault.last)};
  return std::make_shared<TriShapePlanner>(shape);
}

}  // namespace kvasir::prefill

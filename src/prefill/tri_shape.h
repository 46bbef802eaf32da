#pragma once
// Tri-shape: A-shape for all rows but the prompt's last ones, which attend to everything before
// them, because they are the ones that read the context.

#include "prefill/planner.h"

namespace kvasir::prefill {

struct TriShape {
  int32_t init = 0;
  int32_t local = 0;
  int32_t last = 0;

  // As Planner::plan.
  RowRange plan(const PlanSite& site, PlanBuffer& plan) const;
};

std::shared_ptr<const Planner> make_tri_shape(const MethodChoice& choice);

}  // namespace kvasir::prefill

#pragma once
// A-shape ("stream_llm" in head configurations of MInference; StreamingLLM's mask for a whole
// prompt): every query attends to the prompt's first tokens and to its own last ones. Position c is
// seen from r where c <= r and (c < init or r - c < local).

#include "prefill/planner.h"

namespace kvasir::prefill {

std::shared_ptr<const Planner> make_a_shape(const MethodChoice& choice);

// Whether every one of a site's queries sees all positions before it.
bool a_shape_is_dense(const PlanSite& site, int32_t init, int32_t local);
// The plan of it, one program for all heads.
void plan_a_shape(int32_t init, int32_t local, int q_heads, PlanBuffer& plan);

}  // namespace kvasir::prefill

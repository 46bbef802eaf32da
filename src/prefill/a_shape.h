#pragma once
// A-shape ("stream_llm" in head configurations of MInference; StreamingLLM's mask for a whole
// prompt): every query attends to the prompt's first tokens and to its own last ones. Position c is
// seen from r where c <= r and (c < init or r - c < local).

#include "prefill/planner.h"

namespace kvasir::prefill {

std::shared_ptr<const Planner> make_a_shape(const MethodChoice& choice);

// Its segments.
void append_a_shape(int32_t init, int32_t local, std::vector<kernels::PlanSegment>& segments);

// The plan of it for those of the site's rows up to `last` that do not see everything, one program
// for all heads. Which rows these are depends on their positions alone, not on the chunk they are
// in: so each row's result does not either.
RowRange plan_a_shape(int32_t init, int32_t local, const PlanSite& site, int64_t last,
                      PlanBuffer& plan);

}  // namespace kvasir::prefill

#pragma once
// The method `flexprefill`: options to a planner.

#include <memory>

#include "prefill/planner.h"

namespace kvasir::prefill::flexprefill {

std::shared_ptr<const Planner> make_flexprefill(const MethodChoice& choice);

}  // namespace kvasir::prefill::flexprefill

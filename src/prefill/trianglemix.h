#pragma once
// TriangleMix (arXiv 2507.21526): tri-shape in some layers, mostly the deeper ones, and dense
// attention or another method in the others. The window is that of the released code: r - c <
// local.

#include "prefill/planner.h"

namespace kvasir::prefill {

Result<void> check_base_method(std::string_view value);

// Errors: kInvalidArgument for layers that the model does not have.
Result<std::shared_ptr<const Planner>> make_trianglemix(const MethodChoice& choice,
                                                        const ModelShape& model);

}  // namespace kvasir::prefill

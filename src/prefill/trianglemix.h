#pragma once
// TriangleMix (arXiv 2507.21526): tri-shape in some layers, mostly the deeper ones, and dense
// attention or another method in the others. The window is that of the released code: r - c <
// local.

#include "prefill/planner.h"

namespace kvasir::prefill {

Result<void> check_base_method(std::string_view value);

// Layers are those of the option `layers`, else those of the file that `config` names, else those
// of the model's folder (triangle_layers.h), else the upper half. Errors: kInvalidArgument for
// layers that the model does not have; kNotFound, kMalformed for the file.
Result<std::shared_ptr<const Planner>> make_trianglemix(const MethodChoice& choice,
                                                        const ModelShape& model);

}  // namespace kvasir::prefill

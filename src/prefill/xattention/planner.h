#pragma once
// The method `xattention`: options to a planner.

#include <memory>
#include <string_view>

#include "prefill/planner.h"

namespace kvasir::prefill::xattention {

Result<void> check_stride(std::string_view value);  // 8 or 16

// Heads have the thresholds of the file that the option `thresholds` names; where neither that nor
// `threshold` is given, those of the model's folder (kThresholdsFile), if there are any. Errors:
// kNotFound, kMalformed for the file, kInvalidArgument where it is for a model of another shape.
Result<std::shared_ptr<const Planner>> make_xattention(const MethodChoice& choice,
                                                       const ModelShape& model);

}  // namespace kvasir::prefill::xattention

#pragma once
// The method `xattention`: options to a planner.

#include <memory>
#include <string_view>

#include "prefill/planner.h"

namespace kvasir::prefill::xattention {

Result<void> check_stride(std::string_view value);  // 8 or 16

std::shared_ptr<const Planner> make_xattention(const MethodChoice& choice);

}  // namespace kvasir::prefill::xattention

#pragma once
// The prefill stage: what a prompt's queries attend to.

#include <span>

#include "base/method.h"

namespace kvasir::prefill {

std::span<const Method> methods();

}  // namespace kvasir::prefill

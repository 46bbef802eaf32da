#pragma once
// The retrieve stage: what a decode step's queries attend to.

#include <span>

#include "base/method.h"

namespace kvasir::retrieve {

std::span<const Method> methods();

}  // namespace kvasir::retrieve

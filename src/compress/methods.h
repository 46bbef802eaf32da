#pragma once
// The compress stage: how keys and values are stored.

#include <span>

#include "base/method.h"

namespace kvasir::compress {

std::span<const Method> methods();

}  // namespace kvasir::compress

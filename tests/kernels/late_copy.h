#pragma once
// A kernel for tests of overlapping launches: lets the next one begin, and only much later writes
// what that one reads.

#include <cstddef>

#include "cuda/context.h"

namespace kvasir::testing {

// Copies `bytes`, a multiple of 16, some 20 microseconds after its inputs are there.
void launch_late_copy(const cuda::Context& context, void* to, const void* from, size_t bytes);

}  // namespace kvasir::testing

#pragma once
// Training steps of a model or a named shape: tokens a second, model FLOP utilisation.

#include <iosfwd>
#include <optional>

#include "bench/harness.h"
#include "cuda/device.h"

namespace kvasir::bench {

// Whole steps on random tokens, one document a sequence: forward, backward, clipping, AdamW.
Report train(const BenchOptions& options, const std::optional<cuda::Device>& gpu,
             std::ostream& progress);

}  // namespace kvasir::bench

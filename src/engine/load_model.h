#pragma once
// From EngineOptions to what a model folder holds and how it will run: the part that load() and
// inspect() share.

#include <filesystem>
#include <optional>

#include "base/result.h"
#include "cuda/device.h"
#include "formats/model_config.h"
#include "kv/kv_manager.h"
#include "kvasir/engine.h"
#include "models/cpu_ops.h"
#include "prefill/planner.h"

namespace kvasir::engine {

// A model folder and the decisions taken for it; no weights yet.
struct ResolvedModel {
  formats::ModelConfig config;
  formats::GenerationConfig generation;
  DType dtype = DType::kBF16;
  std::optional<cuda::Device> gpu;  // where it runs; none = on the CPU
  Isa isa = Isa::kScalar;
  int threads = 1;
  int64_t chunk = 0;       // prefill tokens of a step
  int64_t max_length = 0;  // of one sequence
  kv::KvGeometry geometry;
  int64_t blocks = 0;  // of the KV pool
  models::ScratchOptions scratch;
  ModelInfo info;
};

// Throws Error: kNotFound, kMalformed, kUnsupported, kInvalidArgument, and kResourceExhausted (with
// the plan) where the plan exceeds the memory that is available. Where it runs on a GPU, that one
// is then current on the calling thread.
ResolvedModel resolve_model(const EngineOptions& options);

// What the options of prefill methods are checked against.
prefill::ModelShape planner_shape(const EngineOptions& options, const formats::ModelConfig& config);

// How a model's KV lies in pages.
kv::KvGeometry kv_geometry(const formats::ModelConfig& config, DType dtype);

// The GPU that "auto", "cpu", "cuda" or "cuda:N" asks for, current on the calling thread; none =
// the CPU. `note` says why "auto" left out one that is there. Throws kInvalidArgument, kNotFound,
// kUnsupported, kResourceExhausted.
std::optional<cuda::Device> resolve_device(const std::string& name, std::string& note);

}  // namespace kvasir::engine

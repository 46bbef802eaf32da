#include "engine/equality_suite.h"
#include "engine/gpu_model.h"

namespace kvasir::engine {
namespace {

const char* no_gpu() {
  static const std::string reason = [] {
    const auto device = open_gpu(0);
    return device ? std::string() : device.error().message();
  }();
  return reason.empty() ? nullptr : reason.c_str();
}

// Logits of the tiny model reach about ten, and without determinism two chains of 16-bit roundings
// are compared: 0.3 and 0.036 were seen.
Mode on_gpu(DType dtype, bool deterministic) {
  return {.name = std::string(dtype_name(dtype)) + (deterministic ? "_deterministic" : ""),
          .make =
              [=](const std::filesystem::path& folder) {
                return std::make_unique<GpuTestModel>(folder, dtype, 96);
              },
          .deterministic = deterministic,
          .tolerance = dtype == DType::kBF16 ? 0.5f : 0.06f,
          .logprob_tolerance = 1e-4f,
          .skip = no_gpu};
}

INSTANTIATE_TEST_SUITE_P(Modes, Equality,
                         testing::Values(on_gpu(DType::kBF16, true), on_gpu(DType::kF16, true),
                                         on_gpu(DType::kBF16, false), on_gpu(DType::kF16, false)),
                         mode_name);

}  // namespace
}  // namespace kvasir::engine

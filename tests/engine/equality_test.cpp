#include "engine/equality_suite.h"

namespace kvasir::engine {
namespace {

// bf16 promises equality in deterministic mode only.
Mode on_cpu(DType dtype, bool deterministic, int threads) {
  return {.name = std::string(dtype_name(dtype)) + (deterministic ? "_deterministic_" : "_") +
                  std::to_string(threads),
          .make =
              [=](const std::filesystem::path& folder) {
                return std::make_unique<TestModel>(folder, dtype, 96, threads);
              },
          .deterministic = deterministic};
}

INSTANTIATE_TEST_SUITE_P(Modes, Equality,
                         testing::Values(on_cpu(DType::kF32, false, 2),
                                         on_cpu(DType::kF32, true, 1), on_cpu(DType::kF32, true, 3),
                                         on_cpu(DType::kBF16, true, 2)),
                         mode_name);

}  // namespace
}  // namespace kvasir::engine

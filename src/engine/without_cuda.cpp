// In place of gpu_cuda.cpp and backend_cuda.cpp where the build found no nvcc.

#include "base/check.h"
#include "engine/backend.h"
#include "engine/gpu.h"

namespace kvasir::engine {

Result<cuda::Device> open_gpu(int) {
  return Error(ErrorCode::kUnsupported,
               "this build runs on the CPU only, as no nvcc was found when it was made; install "
               "the CUDA toolkit and build again, or use --device cpu",
               "--device");
}

int gpu_count() { return 0; }

std::optional<Error> gpu_shape_refusal(const formats::ModelConfig&) { return std::nullopt; }

int64_t gpu_weight_bytes(const formats::ModelConfig&) { return 0; }

int64_t gpu_executor_bytes(const cuda::Device&, const formats::ModelConfig&, DType,
                           const models::ScratchOptions&, int64_t) {
  return 0;
}

std::vector<std::pair<std::string, std::string>> gpu_kernels(const cuda::Device&,
                                                             const formats::ModelConfig&, DType) {
  return {};
}

std::unique_ptr<Backend> load_gpu_backend(ThreadPool&, const ResolvedModel&, models::WeightSource&,
                                          const LoadProgress&) {
  KVASIR_CHECK(false, "open_gpu() refuses before");
}

}  // namespace kvasir::engine

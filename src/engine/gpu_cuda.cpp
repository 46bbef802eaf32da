#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "engine/executor_cuda.h"
#include "engine/gpu.h"
#include "models/attention_desc.h"

namespace kvasir::engine {

Result<cuda::Device> open_gpu(int index) {
  auto device = cuda::find_device(index);
  if (!device) return device;
  if (auto ready = cuda::use_device(device.value()); !ready) return ready.error();
  return device;
}

int gpu_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::optional<Error> gpu_shape_refusal(const formats::ModelConfig& config) {
  const auto refuse = [](const char* name, const char* expected, int64_t found) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("expected a {} that is {} on the GPU, found {}; use --device cpu",
                             name, expected, found),
                 "config.json");
  };
  if (config.head_dim % 16 != 0 || config.head_dim > 256)
    return refuse("head_dim", "a multiple of 16 up to 256", config.head_dim);
  if (config.hidden_size % 8 != 0)
    return refuse("hidden_size", "a multiple of 8", config.hidden_size);
  if (config.intermediate_size % 8 != 0)
    return refuse("intermediate_size", "a multiple of 8", config.intermediate_size);
  return std::nullopt;
}

int64_t gpu_weight_bytes(const formats::ModelConfig& config) {
  return models::cuda_weight_bytes(config);
}

int64_t gpu_executor_bytes(const cuda::Device& device, const formats::ModelConfig& config,
                           DType dtype, const models::ScratchOptions& scratch, int64_t blocks) {
  return CudaExecutor::device_bytes(device, config, dtype,
                                    {.scratch = scratch, .pool_blocks = blocks});
}

std::vector<std::pair<std::string, std::string>> gpu_kernels(const cuda::Device& device,
                                                             const formats::ModelConfig& config,
                                                             DType dtype) {
  const kernels::AttentionDesc desc = models::attention_desc(config, dtype);
  const cuda::Context context{.multiprocessors = device.multiprocessors,
                              .compute_capability = device.compute_capability};
  return {
      {"prefill attention", std::string(kernels::prefill_attention_implementation(desc, context))},
      {"decode attention", "decode_attention"},
      {"prefill gemm", "cuBLASLt"},
      {"decode gemm", "skinny_gemm"}};
}

}  // namespace kvasir::engine

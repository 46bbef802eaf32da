#pragma once
// What planning a model for a GPU needs to know; in builds without CUDA, that there is none.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "formats/model_config.h"
#include "models/cpu_ops.h"

namespace kvasir::engine {

// Finds device `index` and makes it ready on the calling thread. Errors: cuda::find_device's and
// cuda::use_device's; kUnsupported where this build has no CUDA.
Result<cuda::Device> open_gpu(int index);
// How many there are; 0 where this build has no CUDA.
int gpu_count();

// Why the kernels do not run this model; none = they do.
std::optional<Error> gpu_shape_refusal(const formats::ModelConfig& config);

// Bytes on the device: of the weights, and of an executor with a pool of at most `blocks`.
int64_t gpu_weight_bytes(const formats::ModelConfig& config);
int64_t gpu_executor_bytes(const cuda::Device& device, const formats::ModelConfig& config,
                           DType dtype, const models::ScratchOptions& scratch, int64_t blocks);
// Op and implementation.
std::vector<std::pair<std::string, std::string>> gpu_kernels(const cuda::Device& device,
                                                             const formats::ModelConfig& config,
                                                             DType dtype);

}  // namespace kvasir::engine

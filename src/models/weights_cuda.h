#pragma once
// A model's weights in the memory of a GPU, as they lie on disk: row-major [n, k], stacked where
// one product serves several.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "cuda/memory.h"
#include "formats/model_config.h"
#include "models/family.h"
#include "models/weight_source.h"

namespace kvasir::models {

// y = x W^T + b, in device memory.
struct DeviceLinear {
  const std::byte* weight = nullptr;  // [n, k] in the model's dtype
  int64_t n = 0;
  int64_t k = 0;
  const float* bias = nullptr;             // [n] or null
  const std::byte* narrow_bias = nullptr;  // the same in the model's dtype
};

struct CudaLayerWeights {
  const float* input_norm = nullptr;  // [hidden]
  DeviceLinear qkv;                   // [(q_heads + 2 kv_heads) * head_dim, hidden]
  const float* q_norm = nullptr;      // [head_dim] or null
  const float* k_norm = nullptr;
  DeviceLinear o;                    // [hidden, q_heads * head_dim]
  const float* o_norm = nullptr;     // [hidden] or null: norm of what `o` puts out
  const float* post_norm = nullptr;  // [hidden]
  DeviceLinear gate_up;              // [2 * intermediate, hidden]: gate, then up
  DeviceLinear down;                 // [hidden, intermediate]
  const float* down_norm = nullptr;  // [hidden] or null: norm of what `down` puts out
  int64_t window = 0;                // sliding window, 0 = none
};

struct CudaWeights {
  formats::ModelConfig config;
  DType dtype = DType::kBF16;            // kBF16 or kF16
  const std::byte* embedding = nullptr;  // [vocab, hidden]
  std::vector<CudaLayerWeights> layers;
  const float* final_norm = nullptr;  // [hidden]
  DeviceLinear head;                  // [vocab, hidden]; the embedding where they are tied
  int64_t parameters = 0;

  cuda::DeviceMemory memory;  // holds everything above
};

struct CudaWeightsOptions {
  DType dtype = DType::kBF16;
  std::function<void(int64_t done, int64_t total)> on_progress;  // bytes; may be null
};

// Bytes that load_cuda_weights() allocates; reads no tensor.
int64_t cuda_weight_bytes(const formats::ModelConfig& config);

// Reads every tensor over the pool, through page-locked memory, into the current device. Throws
// Error for missing tensors, wrong shapes or dtypes, unknown architectures, and kResourceExhausted
// where the device has not as much memory left.
CudaWeights load_cuda_weights(ThreadPool& pool, const formats::ModelConfig& config,
                              WeightSource& source, const CudaWeightsOptions& options);

}  // namespace kvasir::models

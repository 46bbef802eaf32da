#pragma once
// A model's weights, packed for the CPU's kernels.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "formats/model_config.h"
#include "kernels/gemm/gemm.h"
#include "models/family.h"
#include "models/weight_source.h"

namespace kvasir::models {

// y = x W^T + b. W is [n, k] packed; absent where n = 0.
struct PackedLinear {
  kernels::PackedDesc desc;
  const std::byte* weight = nullptr;
  std::vector<float> bias;  // [n] or empty

  bool present() const { return desc.n != 0; }
};

// One decoder layer. The last layer has its query projection apart from keys and values, because
// only rows whose logits are asked for need queries there.
struct CpuLayerWeights {
  std::vector<float> input_norm;  // [hidden]
  PackedLinear qkv;           // [(q_heads + 2 kv_heads) * head_dim, hidden]; not in the last layer
  PackedLinear q;             // [q_heads * head_dim, hidden]; last layer only
  PackedLinear kv;            // [2 kv_heads * head_dim, hidden]; last layer only
  std::vector<float> q_norm;  // [head_dim] or empty
  std::vector<float> k_norm;
  PackedLinear o;                // [hidden, q_heads * head_dim]
  std::vector<float> o_norm;     // [hidden] or empty: norm of what `o` puts out
  std::vector<float> post_norm;  // [hidden]
  PackedLinear gate_up;          // pair of [intermediate, hidden]
  PackedLinear down;             // [hidden, intermediate]
  std::vector<float> down_norm;  // [hidden] or empty: norm of what `down` puts out
  int64_t window = 0;            // sliding window, 0 = none
};

struct CpuWeights {
  formats::ModelConfig config;
  DType dtype = DType::kBF16;
  Isa isa = Isa::kScalar;
  formats::TensorView embedding;  // [vocab, hidden] as on disk; rows are read as they are needed
  std::vector<CpuLayerWeights> layers;
  std::vector<float> final_norm;  // [hidden]
  PackedLinear head;              // [vocab, hidden]; its own copy where embeddings are tied
  int64_t parameters = 0;         // of the model as published (a tied head counts once)

  std::shared_ptr<WeightSource> source;  // keeps the embedding mapped
  Memory memory;                         // holds every packed weight
};

struct CpuWeightsOptions {
  DType dtype = DType::kBF16;
  Isa isa = kEveryIsa;
  std::function<void(int64_t done, int64_t total)> on_progress;  // packed bytes; may be null
};

// Bytes that load_cpu_weights() allocates; reads no tensor.
int64_t cpu_weight_bytes(const formats::ModelConfig& config, const CpuWeightsOptions& options);

// The number of parameters of a configuration.
int64_t parameter_count(const formats::ModelConfig& config);

// Reads and packs every tensor over the pool. Throws Error for missing tensors, wrong shapes or
// dtypes and unknown architectures.
CpuWeights load_cpu_weights(const kernels::CpuContext& context, const formats::ModelConfig& config,
                            std::shared_ptr<WeightSource> source, const CpuWeightsOptions& options);

}  // namespace kvasir::models

#pragma once
// The operations of models/forward.h in differentiable ATen operations: the same forward, for
// training.

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "formats/model_config.h"
#include "kvasir/request.h"
#include "models/rotary.h"
#include "models/weight_source.h"

namespace kvasir::train {

struct AutogradLinear {
  at::Tensor weight;  // [n, k] f32
  at::Tensor bias;    // [n] f32 or undefined
};

struct AutogradLayer {
  at::Tensor input_norm;      // [hidden]
  AutogradLinear q, k, v;     // [heads * head_dim, hidden]
  at::Tensor q_norm, k_norm;  // [head_dim] or undefined
  AutogradLinear o;           // [hidden, q_heads * head_dim]
  at::Tensor o_norm;          // [hidden] or undefined
  at::Tensor post_norm;       // [hidden]
  AutogradLinear gate, up;    // [intermediate, hidden]
  AutogradLinear down;        // [hidden, intermediate]
  at::Tensor down_norm;       // [hidden] or undefined
  int64_t window = 0;
};

// Parameters that require gradients.
struct AutogradWeights {
  formats::ModelConfig config;
  at::Tensor embedding;  // [vocab, hidden] f32
  std::vector<AutogradLayer> layers;
  at::Tensor final_norm;
  at::Tensor head_weight;  // the embedding itself where tied
};

// Copies every tensor to f32. Throws Error as load_cpu_weights() does.
AutogradWeights load_autograd_weights(const formats::ModelConfig& config,
                                      models::WeightSource& source);

// One whole sequence; every row's logits.
class AutogradOps {
 public:
  using Weights = AutogradWeights;
  using Layer = AutogradLayer;
  using Residual = at::Tensor;    // [rows, hidden]
  using Activation = at::Tensor;  // [rows, ...]
  using Logits = at::Tensor;      // [rows, vocab]
  struct Heads {
    at::Tensor q, k, v;  // [heads, rows, head_dim]
  };

  AutogradOps(const AutogradWeights& weights, std::span<const TokenId> tokens);

  void begin_layer(size_t) {}
  Residual embed();
  Activation norm(const Residual& x, const at::Tensor& weight);
  Heads project_heads(const Activation& x, const Layer& layer, bool narrow);
  Activation attend(const Heads& heads, const Layer& layer, bool narrow);
  Residual narrow(const Residual& x) { return x; }
  void add_linear(Residual& x, const Activation& a, const AutogradLinear& linear,
                  const at::Tensor& norm);
  Activation gated(const Activation& x, const Layer& layer);
  Logits head(const Activation& x);
  bool stopped() const { return false; }

 private:
  at::Tensor heads(const at::Tensor& x, const AutogradLinear& linear, const at::Tensor& norm_weight,
                   int64_t count, bool rotate);

  const AutogradWeights& weights_;
  bool interleaved_rotary_;
  at::Tensor tokens_;     // [rows] int64
  at::Tensor cos_, sin_;  // [rows, rotary_dim / 2]
};

}  // namespace kvasir::train

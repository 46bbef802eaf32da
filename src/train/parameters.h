#pragma once
// All parameters of a model in one flat array, so that an optimiser step, clipping and a gradient
// all-reduce are operations on a few long arrays: masters (f32), gradients (f32) and compute copies
// (the dtype that products run in; the masters themselves for f32).

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "formats/model_config.h"
#include "models/weight_source.h"

namespace kvasir::train {

enum class ParameterKind : uint8_t {
  kMatrix,     // of a layer's linear
  kEmbedding,  // the embedding and, where it is not tied, the head
  kVector,     // norms and biases
};

// A parameter and its place. Linears that lie apart on disk but are multiplied at once (queries,
// keys and values; gate and up) follow each other without a gap; so do those that are stacked on
// disk.
struct ParameterSpec {
  std::string tensor;  // on disk; several parameters where it stacks them
  ParameterKind kind = ParameterKind::kMatrix;
  int64_t rows = 0;                        // n
  int64_t columns = 0;                     // k; 0 for vectors
  int64_t first_row = 0, tensor_rows = 0;  // in the tensor on disk
  int64_t offset = 0;                      // in the flat arrays
  double init_scale = 1;                   // of the standard deviation that random weights have

  int64_t size() const { return rows * (columns ? columns : 1); }
};

// Views of one parameter. `value` has the compute dtype (norms: f32); `grad` is f32, summed into.
struct Parameter {
  at::Tensor value, grad;
  bool defined() const { return value.defined(); }
};

struct AutogradLinear {
  Parameter weight;  // [n, k]
  Parameter bias;    // [n] or undefined
};

struct AutogradLayer {
  Parameter input_norm;      // [hidden]
  AutogradLinear qkv;        // [(q_heads + 2 kv_heads) * head_dim, hidden]
  Parameter q_norm, k_norm;  // [head_dim] or undefined
  AutogradLinear o;          // [hidden, q_heads * head_dim]
  Parameter o_norm;          // [hidden] or undefined
  Parameter post_norm;       // [hidden]
  AutogradLinear gate_up;    // [2 * intermediate, hidden]
  AutogradLinear down;       // [hidden, intermediate]
  Parameter down_norm;       // [hidden] or undefined
  int64_t window = 0;
};

struct AutogradWeights {
  formats::ModelConfig config;
  Parameter embedding;  // [vocab, hidden]
  std::vector<AutogradLayer> layers;
  Parameter final_norm;
  Parameter head;  // the embedding itself where tied
};

class Parameters {
 public:
  // Allocates; values are undefined until load() or initialise().
  Parameters(const formats::ModelConfig& config, at::Device device, at::ScalarType compute);

  // Reads every tensor. Throws Error as load_cpu_weights() does.
  void load(models::WeightSource& source);
  // Normal with this standard deviation, less for what is added to the residual (divided by
  // sqrt(2 layers), as GPT-2 does); norms one, biases zero. The same values on every device.
  void initialise(uint64_t seed, double deviation = 0.02);
  // Compute copies from masters: after every change of those.
  void refresh();

  const AutogradWeights& weights() const { return weights_; }
  const std::vector<ParameterSpec>& specs() const { return specs_; }
  // The flat arrays. `gradients` has kExtraSums elements more than `masters` has: sums that an
  // all-reduce takes along.
  static constexpr int64_t kExtraSums = 64;
  const at::Tensor& masters() const { return masters_; }
  const at::Tensor& gradients() const { return gradients_; }
  at::Tensor extra_sums() const;  // [kExtraSums]
  // Where the parameters of a kind lie: [first, last).
  struct Range {
    int64_t first = 0, last = 0;
    at::Tensor of(const at::Tensor& flat) const;
  };
  Range range(ParameterKind kind) const { return ranges_[static_cast<size_t>(kind)]; }
  // One parameter's part of a flat array, in its shape.
  static at::Tensor view(const at::Tensor& flat, const ParameterSpec& spec);
  int64_t count() const;  // parameters, without gaps

 private:
  void lay_out();
  void make_views();

  std::vector<ParameterSpec> specs_;
  Range ranges_[3];
  AutogradWeights weights_;
  at::Tensor masters_, gradients_, compute_;
};

}  // namespace kvasir::train

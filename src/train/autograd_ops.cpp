#include "train/autograd_ops.h"

#include <ATen/ATen.h>

#include "models/family.h"

namespace kvasir::train {
namespace {

at::ScalarType scalar_type(DType dtype) {
  return dtype == DType::kF32 ? at::kFloat : dtype == DType::kBF16 ? at::kBFloat16 : at::kHalf;
}

// `rows` rows of a tensor, from first_row on.
at::Tensor read_rows(models::WeightSource& source, const std::string& name,
                     std::vector<int64_t> shape, int64_t first_row, int64_t rows) {
  const formats::TensorView view = source.get(name, shape, "").value();
  const int64_t row_bytes = static_cast<int64_t>(view.data.size()) / shape[0];
  shape[0] = rows;
  at::Tensor stored = at::empty(shape, scalar_type(*view.dtype));
  std::memcpy(stored.data_ptr(), view.data.data() + first_row * row_bytes, rows * row_bytes);
  source.drop(name);
  return stored.to(at::kFloat).set_requires_grad(true);
}

at::Tensor read(models::WeightSource& source, const std::string& name, std::vector<int64_t> shape) {
  return read_rows(source, name, shape, 0, shape[0]);
}

AutogradLinear read_linear(models::WeightSource& source, const std::string& prefix,
                           const models::WeightPart& part, int64_t k, bool has_bias) {
  const std::string name = prefix + std::string(part.name);
  AutogradLinear linear{.weight = read_rows(source, name + ".weight", {part.tensor_rows, k},
                                            part.first_row, part.rows),
                        .bias = {}};
  if (has_bias)
    linear.bias = read_rows(source, name + ".bias", {part.tensor_rows}, part.first_row, part.rows);
  return linear;
}

at::Tensor apply(const at::Tensor& x, const AutogradLinear& linear) {
  return linear.bias.defined() ? at::linear(x, linear.weight, linear.bias)
                               : at::linear(x, linear.weight);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
}

}  // namespace

AutogradWeights load_autograd_weights(const formats::ModelConfig& config,
                                      models::WeightSource& source) {
  const models::FamilyTraits& family = models::find_family(config);
  const models::WeightNames& names = family.names;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  const models::LayerParts parts = models::layer_parts(family, config);
  const bool qkv_bias = models::has_qkv_bias(family, config);
  const bool mlp_bias = models::has_mlp_bias(family, config);

  AutogradWeights weights;
  weights.config = config;
  weights.embedding = read(source, std::string(names.embedding), {config.vocab_size, hidden});
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string prefix = std::string(names.layers) + std::to_string(i) + ".";
    const auto linear = [&](const models::WeightPart& part, int64_t k, bool has_bias) {
      return read_linear(source, prefix, part, k, has_bias);
    };
    const auto vector = [&](std::string_view name, int64_t n) {
      return read(source, prefix + std::string(name), {n});
    };
    AutogradLayer layer;
    layer.input_norm = vector(names.input_norm, hidden);
    layer.q = linear(parts.q, hidden, qkv_bias);
    layer.k = linear(parts.k, hidden, qkv_bias);
    layer.v = linear(parts.v, hidden, qkv_bias);
    if (family.has_qk_norm) {
      layer.q_norm = vector(names.q_norm, config.head_dim);
      layer.k_norm = vector(names.k_norm, config.head_dim);
    }
    layer.o = linear(parts.o, q_size, models::has_o_bias(family, config));
    layer.post_norm = vector(names.post_norm, hidden);
    layer.gate = linear(parts.gate, hidden, mlp_bias);
    layer.up = linear(parts.up, hidden, mlp_bias);
    layer.down = linear(parts.down, inner, mlp_bias);
    if (models::has_output_norms(family)) {
      layer.o_norm = vector(names.o_norm, hidden);
      layer.down_norm = vector(names.down_norm, hidden);
    }
    if (!config.sliding_window.empty()) layer.window = config.sliding_window[i];
    weights.layers.push_back(std::move(layer));
  }
  weights.final_norm = read(source, std::string(names.final_norm), {hidden});
  weights.head_weight = config.tie_word_embeddings
                            ? weights.embedding
                            : read(source, std::string(names.head), {config.vocab_size, hidden});
  return weights;
}

AutogradOps::AutogradOps(const AutogradWeights& weights, std::span<const TokenId> tokens)
    : weights_(weights),
      interleaved_rotary_(models::find_family(weights.config).has_interleaved_rotary) {
  const int64_t rows = static_cast<int64_t>(tokens.size());
  tokens_ = at::empty({rows}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), tokens_.mutable_data_ptr<int64_t>());
  const formats::ModelConfig& config = weights.config;
  const models::Rotary rotary(config.rope, config.head_dim, config.max_positions);
  const int64_t half = rotary.rotary_dim() / 2;
  at::Tensor table = at::empty({rows, 2 * half}, at::kFloat);
  rotary.fill(0, rows, rows, table.mutable_data_ptr<float>());
  cos_ = table.slice(1, 0, half);
  sin_ = table.slice(1, half, 2 * half);
}

at::Tensor AutogradOps::embed() { return at::embedding(weights_.embedding, tokens_); }

at::Tensor AutogradOps::norm(const Residual& x, const at::Tensor& weight) {
  return rms_norm(x, weight, weights_.config.rms_norm_eps);
}

at::Tensor AutogradOps::heads(const at::Tensor& x, const AutogradLinear& linear,
                              const at::Tensor& norm_weight, int64_t count, bool rotate) {
  const int64_t head_dim = weights_.config.head_dim, half = cos_.size(1);
  at::Tensor y = apply(x, linear).view({x.size(0), count, head_dim}).transpose(0, 1);
  if (norm_weight.defined()) y = rms_norm(y, norm_weight, weights_.config.rms_norm_eps);
  if (!rotate) return y;
  const at::Tensor rest = y.slice(-1, 2 * half);
  if (interleaved_rotary_) {
    const at::Tensor a = y.slice(-1, 0, 2 * half, 2), b = y.slice(-1, 1, 2 * half, 2);
    return at::cat({at::stack({a * cos_ - b * sin_, b * cos_ + a * sin_}, -1).flatten(-2), rest},
                   -1);
  }
  const at::Tensor a = y.slice(-1, 0, half), b = y.slice(-1, half, 2 * half);
  return at::cat({a * cos_ - b * sin_, b * cos_ + a * sin_, rest}, -1);
}

AutogradOps::Heads AutogradOps::project_heads(const Activation& x, const Layer& layer, bool) {
  const formats::ModelConfig& config = weights_.config;
  return {.q = heads(x, layer.q, layer.q_norm, config.num_q_heads, true),
          .k = heads(x, layer.k, layer.k_norm, config.num_kv_heads, true),
          .v = heads(x, layer.v, {}, config.num_kv_heads, false)};
}

at::Tensor AutogradOps::attend(const Heads& heads, const Layer& layer, bool) {
  const int64_t rows = heads.q.size(1);
  const int64_t group = heads.q.size(0) / heads.k.size(0);
  const at::Tensor k = heads.k.repeat_interleave(group, 0);
  const at::Tensor v = heads.v.repeat_interleave(group, 0);
  at::Tensor visible = at::ones({rows, rows}, at::kBool).tril();
  if (layer.window > 0) visible = visible.logical_and(visible.triu(1 - layer.window));
  const at::Tensor mixed = at::scaled_dot_product_attention(heads.q.unsqueeze(0), k.unsqueeze(0),
                                                            v.unsqueeze(0), visible);
  return mixed.squeeze(0).transpose(0, 1).reshape({rows, -1});
}

void AutogradOps::add_linear(Residual& x, const Activation& a, const AutogradLinear& linear,
                             const at::Tensor& norm) {
  const at::Tensor y = apply(a, linear);
  x = x + (norm.defined() ? rms_norm(y, norm, weights_.config.rms_norm_eps) : y);
}

at::Tensor AutogradOps::gated(const Activation& x, const Layer& layer) {
  return at::silu(apply(x, layer.gate)) * apply(x, layer.up);
}

at::Tensor AutogradOps::head(const Activation& x) { return at::linear(x, weights_.head_weight); }

}  // namespace kvasir::train

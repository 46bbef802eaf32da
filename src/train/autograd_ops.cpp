#include "train/autograd_ops.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>

#include "models/family.h"
#include "models/forward.h"

namespace kvasir::train {

AutogradOps::AutogradOps(const AutogradWeights& weights, const DeviceBatch& batch)
    : weights_(weights),
      batch_(batch),
      shape_{.q_heads = weights.config.num_q_heads,
             .kv_heads = weights.config.num_kv_heads,
             .head_dim = weights.config.head_dim,
             .interleaved = models::find_family(weights.config).has_interleaved_rotary} {}

AutogradOps::Residual AutogradOps::embed() {
  return {train::embed(weights_.embedding, batch_.tokens), {}};
}

at::Tensor AutogradOps::norm(Residual& x, const Parameter& weight) {
  const double eps = weights_.config.rms_norm_eps;
  if (!x.pending.defined()) return rms_norm(x.x, weight, eps);
  SumAndNorm result = add_rms_norm(x.x, x.pending, weight, eps);
  x = {std::move(result.sum), {}};
  return result.normed;
}

at::Tensor AutogradOps::head_norm(const at::Tensor& heads, const Parameter& weight) {
  const at::Tensor rows = heads.reshape({-1, shape_.head_dim});
  return rms_norm(rows, weight, weights_.config.rms_norm_eps).view({heads.size(0), -1});
}

at::Tensor AutogradOps::project_heads(const at::Tensor& x, const Layer& layer, bool) {
  at::Tensor qkv = linear(x, layer.qkv);
  if (!layer.q_norm.defined()) return qkv;
  const int64_t k_at = shape_.q_heads * shape_.head_dim;
  const int64_t v_at = k_at + shape_.kv_heads * shape_.head_dim;
  return at::cat({head_norm(qkv.slice(1, 0, k_at), layer.q_norm),
                  head_norm(qkv.slice(1, k_at, v_at), layer.k_norm), qkv.slice(1, v_at)},
                 1);
}

at::Tensor AutogradOps::attend(const at::Tensor& heads, const Layer& layer, bool) {
  return train::attend(heads, shape_, batch_, layer.window);
}

void AutogradOps::add_linear(Residual& x, const at::Tensor& a, const AutogradLinear& linear,
                             const Parameter& norm) {
  at::Tensor y = train::linear(a, linear);
  if (norm.defined()) y = rms_norm(y, norm, weights_.config.rms_norm_eps);
  if (x.pending.defined()) x.x = x.x + x.pending;
  x.pending = std::move(y);
}

at::Tensor AutogradOps::gated(const at::Tensor& x, const Layer& layer) {
  return train::gated(linear(x, layer.gate_up));
}

at::Tensor AutogradOps::head(const at::Tensor& x) { return at::linear(x, weights_.head.value); }

at::Tensor final_rows(AutogradOps& ops, const AutogradWeights& weights, bool recompute) {
  AutogradOps::Residual residual = ops.embed();
  for (size_t index = 0; index < weights.layers.size(); ++index) {
    const AutogradLayer& layer = weights.layers[index];
    const bool is_last = index + 1 == weights.layers.size();
    if (!recompute) {
      models::forward_layer(ops, layer, is_last, residual);
      continue;
    }
    residual.x = recomputed(residual.x, [&ops, &layer, is_last](const at::Tensor& x) {
      AutogradOps::Residual inner{x, {}};
      models::forward_layer(ops, layer, is_last, inner);
      return inner.x + inner.pending;
    });
  }
  return ops.norm(residual, weights.final_norm);
}

at::Tensor batch_loss(AutogradOps& ops, const AutogradWeights& weights, const DeviceBatch& batch,
                      bool recompute) {
  return chunked_loss(final_rows(ops, weights, recompute), weights.head, batch);
}

}  // namespace kvasir::train

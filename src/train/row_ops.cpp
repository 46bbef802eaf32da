#include "train/row_ops.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/stack.h>

#include "train/row_ops_cuda.h"

namespace kvasir::train {
namespace {

at::Tensor as_float(const at::Tensor& x) { return x.to(at::kFloat); }

// Rotates `heads` [rows, count, head_dim] f32 by the angle, or back.
at::Tensor rotated(const at::Tensor& heads, const HeadShape& shape, const at::Tensor& table,
                   bool back) {
  const int64_t half = table.size(-1) / 2;
  const at::Tensor cos = table.slice(-1, 0, half).unsqueeze(1);
  at::Tensor sin = table.slice(-1, half).unsqueeze(1);
  if (back) sin = -sin;
  const at::Tensor rest = heads.slice(-1, 2 * half);
  if (shape.interleaved) {
    const at::Tensor a = heads.slice(-1, 0, 2 * half, 2), b = heads.slice(-1, 1, 2 * half, 2);
    return at::cat({at::stack({a * cos - b * sin, b * cos + a * sin}, -1).flatten(-2), rest}, -1);
  }
  const at::Tensor a = heads.slice(-1, 0, half), b = heads.slice(-1, half, 2 * half);
  return at::cat({a * cos - b * sin, b * cos + a * sin, rest}, -1);
}

}  // namespace

Normed norm_forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                    double eps) {
  if (x.is_cuda()) return cuda_norm_forward(x, y, weight, eps);
  const at::Tensor sum = y.defined() ? x + y : x;
  const at::Tensor wide = as_float(sum);
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return {sum, (wide * scale * weight).to(x.scalar_type()), scale};
}

at::Tensor norm_backward(const at::Tensor& d_normed, const at::Tensor& d_sum, const at::Tensor& sum,
                         const at::Tensor& scale, const at::Tensor& weight,
                         const at::Tensor& weight_grad) {
  if (sum.is_cuda()) return cuda_norm_backward(d_normed, d_sum, sum, scale, weight, weight_grad);
  const at::Tensor unit = as_float(sum) * scale, d = as_float(d_normed);
  weight_grad.add_((d * unit).sum(0));
  const at::Tensor d_unit = d * weight;
  at::Tensor d_x = (d_unit - unit * (d_unit * unit).mean(-1, /*keepdim=*/true)) * scale;
  if (d_sum.defined()) d_x.add_(d_sum);
  return d_x.to(sum.scalar_type());
}

void rotate(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& cos_sin,
            const at::Tensor& rotation) {
  if (qkv.is_cuda()) return cuda_rotate(qkv, shape, cos_sin, rotation);
  const at::Tensor heads = qkv.view({qkv.size(0), shape.all_heads(), shape.head_dim})
                               .slice(1, 0, shape.q_heads + shape.kv_heads);
  heads.copy_(rotated(as_float(heads), shape, cos_sin.index_select(0, rotation), false));
}

at::Tensor rotate_back(const at::Tensor& d_q, const at::Tensor& d_k, const at::Tensor& d_v,
                       const HeadShape& shape, const at::Tensor& cos_sin,
                       const at::Tensor& rotation) {
  if (d_q.is_cuda()) return cuda_rotate_back(d_q, d_k, d_v, shape, cos_sin, rotation);
  const at::Tensor table = cos_sin.index_select(0, rotation);
  return at::cat({rotated(as_float(d_q), shape, table, true).to(d_q.scalar_type()),
                  rotated(as_float(d_k), shape, table, true).to(d_q.scalar_type()), d_v},
                 1)
      .flatten(1);
}

at::Tensor gated_forward(const at::Tensor& gate_up) {
  if (gate_up.is_cuda()) return cuda_gated_forward(gate_up);
  const int64_t size = gate_up.size(1) / 2;
  return (at::silu(as_float(gate_up.slice(1, 0, size))) * gate_up.slice(1, size))
      .to(gate_up.scalar_type());
}

at::Tensor gated_backward(const at::Tensor& d_y, const at::Tensor& gate_up) {
  if (d_y.is_cuda()) return cuda_gated_backward(d_y, gate_up);
  const int64_t size = gate_up.size(1) / 2;
  const at::Tensor gate = as_float(gate_up.slice(1, 0, size)), up = gate_up.slice(1, size);
  const at::Tensor sigmoid = at::sigmoid(gate), d = as_float(d_y);
  const at::Tensor silu = gate * sigmoid;
  return at::cat({d * up * (sigmoid + silu - silu * sigmoid), d * silu}, 1)
      .to(gate_up.scalar_type());
}

at::Tensor cross_entropy(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                         bool wants_gradient) {
  if (logits.is_cuda()) return cuda_cross_entropy(logits, targets, weights, wants_gradient);
  const at::Tensor logs = at::log_softmax(logits, 1, at::kFloat);
  const at::Tensor at_target = targets.unsqueeze(1), scale = weights.unsqueeze(1);
  const at::Tensor losses = -(logs.gather(1, at_target) * scale).squeeze(1);
  if (wants_gradient) {
    at::Tensor gradient = logs.exp().mul_(scale);
    gradient.scatter_add_(1, at_target, -scale);
    logits.copy_(gradient);
  }
  return losses;
}

}  // namespace kvasir::train

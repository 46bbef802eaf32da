#pragma once
// Differentiable operations of the forward. Gradients of parameters are summed into Parameter::grad
// (f32) directly: autograd carries the gradients of activations alone.

#include <ATen/core/Tensor.h>

#include <functional>

#include "train/device_batch.h"
#include "train/parameters.h"
#include "train/row_ops.h"

namespace kvasir::train {

// Rows of the embedding [rows, hidden]: the leaf that gradients flow back to.
at::Tensor embed(const Parameter& embedding, const at::Tensor& tokens);

// x W^T + b of x [rows, k]: [rows, n].
at::Tensor linear(const at::Tensor& x, const AutogradLinear& linear);

// RMS norm of x [rows, size].
at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps);
// The sum x + y and its norm.
struct SumAndNorm {
  at::Tensor sum, normed;
};
SumAndNorm add_rms_norm(const at::Tensor& x, const at::Tensor& y, const Parameter& weight,
                        double eps);

// Rotation and causal attention within documents: qkv [rows, all_heads * head_dim], which it
// overwrites, to [rows, q_heads * head_dim]. A row sees `window` keys up to its own; 0: all.
at::Tensor attend(const at::Tensor& qkv, const HeadShape& shape, const DeviceBatch& batch,
                  int64_t window);

// silu(gate) * up of gate_up [rows, 2 size].
at::Tensor gated(const at::Tensor& gate_up);

// The sum of weight * -log p(target) over rows of x [rows, hidden], f32 scalar. Logits exist for
// some rows at a time only; where gradients are wanted, those of x and of the head are computed
// beside them.
at::Tensor chunked_loss(const at::Tensor& x, const Parameter& head, const DeviceBatch& batch);

// grad += a^T b in f32, without recording: a [rows, n], b [rows, k], grad [n, k] f32.
void add_product(const at::Tensor& grad, const at::Tensor& a, const at::Tensor& b);

// y = layer(x) without keeping what the layer computes: its backward runs the layer again. `layer`
// must compute the same each time and live until then.
at::Tensor recomputed(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> layer);

}  // namespace kvasir::train

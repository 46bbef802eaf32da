#pragma once
// The operations of a training step that go row by row, forward and backward, without autograd:
// ATen on the CPU, fused kernels on a GPU (bf16). What the functions of functions.h are made of.

#include <ATen/core/Tensor.h>

namespace kvasir::train {

struct Normed {
  at::Tensor sum;     // [rows, size]: x + y; x itself without y
  at::Tensor normed;  // [rows, size]: sum / sqrt(mean(sum^2) + eps) * weight
  at::Tensor scale;   // [rows, 1] f32: 1 / sqrt(...)
};
// x, y [rows, size] in the compute dtype, dense; y may be undefined. weight [size] f32.
Normed norm_forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight, double eps);
// The gradient of x (and of y) [rows, size]; adds the weight's to weight_grad. d_sum may be
// undefined.
at::Tensor norm_backward(const at::Tensor& d_normed, const at::Tensor& d_sum, const at::Tensor& sum,
                         const at::Tensor& scale, const at::Tensor& weight,
                         const at::Tensor& weight_grad);

struct HeadShape {
  int64_t q_heads = 0, kv_heads = 0, head_dim = 0;
  bool interleaved = false;  // elements 2i and 2i + 1 rotate together, not i and i + half

  int64_t all_heads() const { return q_heads + 2 * kv_heads; }
};
// Rotates queries and keys of qkv [rows, all_heads * head_dim] in place. cos_sin [*, rotary_dim]
// f32, rotation [rows]: the row of cos_sin.
void rotate(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& cos_sin,
            const at::Tensor& rotation);
// The gradient of qkv before rotation from those of the heads d_q [rows, q_heads, head_dim], d_k,
// d_v [rows, kv_heads, head_dim], dense.
at::Tensor rotate_back(const at::Tensor& d_q, const at::Tensor& d_k, const at::Tensor& d_v,
                       const HeadShape& shape, const at::Tensor& cos_sin,
                       const at::Tensor& rotation);

// silu(gate) * up of gate_up [rows, 2 size]: [rows, size].
at::Tensor gated_forward(const at::Tensor& gate_up);
at::Tensor gated_backward(const at::Tensor& d_y, const at::Tensor& gate_up);

// Row losses weight * -log softmax(logits)[target], [rows] f32. Replaces logits [rows, vocab] by
// their gradient where `wants_gradient`; otherwise leaves them in an unspecified state.
at::Tensor cross_entropy(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                         bool wants_gradient);

}  // namespace kvasir::train

#pragma once
// row_ops.h on a GPU: bf16, through kernels of our own. Without CUDA they throw kUnsupported.

#include "train/row_ops.h"

namespace kvasir::train {

Normed cuda_norm_forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                         double eps);
at::Tensor cuda_norm_backward(const at::Tensor& d_normed, const at::Tensor& d_sum,
                              const at::Tensor& sum, const at::Tensor& scale,
                              const at::Tensor& weight, const at::Tensor& weight_grad);
void cuda_rotate(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& cos_sin,
                 const at::Tensor& rotation);
at::Tensor cuda_rotate_back(const at::Tensor& d_q, const at::Tensor& d_k, const at::Tensor& d_v,
                            const HeadShape& shape, const at::Tensor& cos_sin,
                            const at::Tensor& rotation);
at::Tensor cuda_gated_forward(const at::Tensor& gate_up);
at::Tensor cuda_gated_backward(const at::Tensor& d_y, const at::Tensor& gate_up);
at::Tensor cuda_cross_entropy(at::Tensor& logits, const at::Tensor& targets,
                              const at::Tensor& weights, bool wants_gradient);

}  // namespace kvasir::train

#include "train/row_ops_cuda.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "cuda/device.h"
#include "kernels/add_norm/add_norm_cuda.h"
#include "kernels/cross_entropy/cross_entropy_cuda.h"
#include "kernels/gated/gated_backward_cuda.h"
#include "kernels/gated/gated_cuda.h"
#include "kernels/rotate/rotate_cuda.h"
#include "kvasir/error.h"

namespace kvasir::train {
namespace {

// Kernels join libtorch's queue, the default stream of the tensors' device.
cuda::Context context_of(const at::Tensor& tensor) {
  static thread_local int known_index = -1;
  static thread_local cuda::Context context;
  if (tensor.get_device() != known_index) {
    known_index = static_cast<int>(tensor.get_device());
    const cuda::Device device = cuda::find_device(known_index).value();
    context.multiprocessors = device.multiprocessors;
    context.compute_capability = device.compute_capability;
  }
  return context;
}

void check_bf16(const at::Tensor& tensor, int64_t multiple) {
  if (tensor.scalar_type() != at::kBFloat16)
    throw Error(ErrorCode::kUnsupported,
                "training on a GPU computes in bf16; choose it as precision", "training");
  if (!tensor.is_contiguous() || tensor.size(-1) % multiple != 0)
    throw Error(ErrorCode::kUnsupported,
                "expected sizes of the model that are multiples of " + std::to_string(multiple) +
                    ", found " + std::to_string(tensor.size(-1)),
                "training on a GPU");
}

kernels::RotateArgs rotate_args(const at::Tensor& qkv, const HeadShape& shape,
                                const at::Tensor& cos_sin, const at::Tensor& rotation) {
  return {.qkv = qkv.mutable_data_ptr(),
          .cos_sin = cos_sin.const_data_ptr<float>(),
          .rotation = rotation.const_data_ptr<int64_t>(),
          .rows = qkv.size(0),
          .q_heads = static_cast<int>(shape.q_heads),
          .kv_heads = static_cast<int>(shape.kv_heads),
          .head_dim = static_cast<int>(shape.head_dim),
          .rotary_dim = static_cast<int>(cos_sin.size(1)),
          .interleaved = shape.interleaved};
}

}  // namespace

Normed cuda_norm_forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                         double eps) {
  check_bf16(x, 4);
  Normed result{.sum = y.defined() ? at::empty_like(x) : x,
                .normed = at::empty_like(x),
                .scale = at::empty({x.size(0), 1}, weight.options())};
  kernels::run_add_norm(context_of(x),
                        {.x = x.const_data_ptr(),
                         .y = y.defined() ? y.const_data_ptr() : nullptr,
                         .weight = weight.const_data_ptr<float>(),
                         .sum = y.defined() ? result.sum.mutable_data_ptr() : nullptr,
                         .normed = result.normed.mutable_data_ptr(),
                         .scale = result.scale.mutable_data_ptr<float>(),
                         .rows = x.size(0),
                         .size = x.size(1),
                         .eps = static_cast<float>(eps)});
  return result;
}

at::Tensor cuda_norm_backward(const at::Tensor& d_normed, const at::Tensor& d_sum,
                              const at::Tensor& sum, const at::Tensor& scale,
                              const at::Tensor& weight, const at::Tensor& weight_grad) {
  check_bf16(d_normed, 4);
  const cuda::Context context = context_of(sum);
  const int64_t rows = sum.size(0), size = sum.size(1);
  const at::Tensor d_x = at::empty_like(sum);
  const at::Tensor parts =
      at::empty({kernels::add_norm_parts(context, rows, size), size}, weight.options());
  kernels::run_add_norm_backward(context,
                                 {.d_normed = d_normed.const_data_ptr(),
                                  .d_sum = d_sum.defined() ? d_sum.const_data_ptr() : nullptr,
                                  .sum = sum.const_data_ptr(),
                                  .scale = scale.const_data_ptr<float>(),
                                  .weight = weight.const_data_ptr<float>(),
                                  .d_x = d_x.mutable_data_ptr(),
                                  .weight_parts = parts.mutable_data_ptr<float>(),
                                  .rows = rows,
                                  .size = size});
  weight_grad.add_(parts.sum(0));
  return d_x;
}

void cuda_rotate(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& cos_sin,
                 const at::Tensor& rotation) {
  check_bf16(qkv, 2);
  kernels::run_rotate(context_of(qkv), rotate_args(qkv, shape, cos_sin, rotation));
}

at::Tensor cuda_rotate_back(const at::Tensor& d_q, const at::Tensor& d_k, const at::Tensor& d_v,
                            const HeadShape& shape, const at::Tensor& cos_sin,
                            const at::Tensor& rotation) {
  for (const at::Tensor& d : {d_q, d_k, d_v}) check_bf16(d, 2);
  const at::Tensor d_qkv =
      at::empty({d_q.size(0), shape.all_heads() * shape.head_dim}, d_q.options());
  kernels::run_rotate_back(context_of(d_q),
                           {.d_q = d_q.const_data_ptr(),
                            .d_k = d_k.const_data_ptr(),
                            .d_v = d_v.const_data_ptr(),
                            .heads = rotate_args(d_qkv, shape, cos_sin, rotation)});
  return d_qkv;
}

at::Tensor cuda_gated_forward(const at::Tensor& gate_up) {
  check_bf16(gate_up, 16);
  const int64_t rows = gate_up.size(0), size = gate_up.size(1) / 2;
  const at::Tensor y = at::empty({rows, size}, gate_up.options());
  kernels::run_gated(context_of(y), {.gate_up = gate_up.const_data_ptr(),
                                     .y = y.mutable_data_ptr(),
                                     .dtype = DType::kBF16,
                                     .rows = rows,
                                     .size = size});
  return y;
}

at::Tensor cuda_gated_backward(const at::Tensor& d_y, const at::Tensor& gate_up) {
  check_bf16(d_y, 8);
  const at::Tensor d_gate_up = at::empty_like(gate_up);
  kernels::run_gated_backward(context_of(d_y), {.d_y = d_y.const_data_ptr(),
                                                .gate_up = gate_up.const_data_ptr(),
                                                .d_gate_up = d_gate_up.mutable_data_ptr(),
                                                .rows = d_y.size(0),
                                                .size = d_y.size(1)});
  return d_gate_up;
}

at::Tensor cuda_cross_entropy(at::Tensor& logits, const at::Tensor& targets,
                              const at::Tensor& weights, bool wants_gradient) {
  check_bf16(logits, 8);
  const at::Tensor losses = at::empty({logits.size(0)}, weights.options());
  kernels::run_cross_entropy(context_of(logits), {.logits = logits.mutable_data_ptr(),
                                                  .targets = targets.const_data_ptr<int64_t>(),
                                                  .weights = weights.const_data_ptr<float>(),
                                                  .losses = losses.mutable_data_ptr<float>(),
                                                  .rows = logits.size(0),
                                                  .vocab = logits.size(1),
                                                  .wants_gradient = wants_gradient});
  return losses;
}

}  // namespace kvasir::train

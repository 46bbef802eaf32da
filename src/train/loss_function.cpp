// Cross-entropy in chunks of rows. The gradient of the loss by the logits needs nothing but the
// logits, so both are computed while they are there (as Liger Kernel does: Hsu et al., 2024,
// arXiv:2410.10989, section 3.2), and no logits are kept or computed twice.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "train/functions.h"

namespace kvasir::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows at a time: the logits of a small vocabulary then stay in a GPU's cache between the product
// that makes them and those that use them.
constexpr int64_t kChunkRows = 2048;

struct LossFunction : Function<LossFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& head,
                            const at::Tensor& head_grad, const DeviceBatch& batch,
                            bool wants_gradient) {
    at::Tensor d_x = wants_gradient ? at::empty_like(x) : at::Tensor();
    at::Tensor loss = at::zeros({}, x.options().dtype(at::kFloat));
    for (int64_t first = 0; first < x.size(0); first += kChunkRows) {
      const int64_t last = std::min(first + kChunkRows, x.size(0));
      const at::Tensor rows = x.slice(0, first, last);
      at::Tensor logits = at::mm(rows, head.t());
      loss.add_(cross_entropy(logits, batch.targets.slice(0, first, last),
                              batch.weights.slice(0, first, last), wants_gradient)
                    .sum());
      if (!wants_gradient) continue;
      at::Tensor d_rows = d_x.slice(0, first, last);
      at::mm_out(d_rows, logits, head);
      add_product(head_grad, logits, rows);
    }
    if (wants_gradient) context->saved_data["d_x"] = d_x;
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& d) {
    // The head's gradient is in place already, so the loss can only be the end of the computation:
    // d[0] is 1.
    (void)d;
    at::Tensor d_x = context->saved_data["d_x"].toTensor();
    context->saved_data.clear();
    return {d_x, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor chunked_loss(const at::Tensor& x, const Parameter& head, const DeviceBatch& batch) {
  return LossFunction::apply(x, head.value, head.grad, batch,
                             at::GradMode::is_enabled() && x.requires_grad());
}

}  // namespace kvasir::train

#include "train/functions.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace kvasir::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct EmbedFunction : Function<EmbedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& /*leaf*/,
                            const at::Tensor& table, const at::Tensor& grad,
                            const at::Tensor& tokens) {
    context->saved_data["grad"] = grad;
    context->save_for_backward({tokens});
    return table.index_select(0, tokens);
  }
  static variable_list backward(AutogradContext* context, const variable_list& d) {
    const at::Tensor tokens = context->get_saved_variables()[0];
    context->saved_data["grad"].toTensor().index_add_(0, tokens, d[0].to(at::kFloat));
    return {{}, {}, {}, {}};
  }
};

struct LinearFunction : Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& weight_grad, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& bias_grad) {
    context->save_for_backward({x, weight});
    context->saved_data["weight_grad"] = weight_grad;
    context->saved_data["bias_grad"] = bias_grad;
    return at::linear(x, weight, bias);
  }
  static variable_list backward(AutogradContext* context, const variable_list& d) {
    const variable_list saved = context->get_saved_variables();
    add_product(context->saved_data["weight_grad"].toTensor(), d[0], saved[0]);
    const auto bias_grad = context->saved_data["bias_grad"].toOptional<at::Tensor>();
    if (bias_grad) at::Tensor(*bias_grad).add_(d[0].sum(0, false, at::kFloat));
    return {at::mm(d[0], saved[1]), {}, {}, {}, {}};
  }
};

struct NormFunction : Function<NormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& grad, double eps) {
    const Normed result = norm_forward(x, {}, weight, eps);
    context->save_for_backward({x, result.scale, weight});
    context->saved_data["grad"] = grad;
    return result.normed;
  }
  static variable_list backward(AutogradContext* context, const variable_list& d) {
    const variable_list saved = context->get_saved_variables();
    return {norm_backward(d[0].contiguous(), {}, saved[0], saved[1], saved[2],
                          context->saved_data["grad"].toTensor()),
            {},
            {},
            {}};
  }
};

struct AddNormFunction : Function<AddNormFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& y,
                               const at::Tensor& weight, const at::Tensor& grad, double eps) {
    const Normed result = norm_forward(x, y, weight, eps);
    context->save_for_backward({result.sum, result.scale, weight});
    context->saved_data["grad"] = grad;
    context->set_materialize_grads(false);
    return {result.sum, result.normed};
  }
  static variable_list backward(AutogradContext* context, const variable_list& d) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor d_sum = d[0].defined() ? d[0].contiguous() : at::Tensor();
    const at::Tensor d_x = norm_backward(d[1].contiguous(), d_sum, saved[0], saved[1], saved[2],
                                         context->saved_data["grad"].toTensor());
    return {d_x, d_x, {}, {}, {}};
  }
};

struct GatedFunction : Function<GatedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_up) {
    context->save_for_backward({gate_up});
    return gated_forward(gate_up);
  }
  static variable_list backward(AutogradContext* context, const variable_list& d) {
    return {gated_backward(d[0].contiguous(), context->get_saved_variables()[0])};
  }
};

struct RecomputedFunction : Function<RecomputedFunction> {
  using Layer = std::function<at::Tensor(const at::Tensor&)>;
  // A function carried through the context, which holds tensors and custom classes only.
  struct Holder : torch::CustomClassHolder {
    explicit Holder(Layer function) : layer(std::move(function)) {}
    Layer layer;
  };

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, Layer layer) {
    context->save_for_backward({x});
    context->saved_data["layer"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(layer));
    return layer(x);
  }
  static variable_list backward(AutogradContext* context, const variable_list& d) {
    const auto holder = context->saved_data["layer"].toCapsule();
    const at::Tensor x = context->get_saved_variables()[0].detach().set_requires_grad(true);
    at::Tensor y;
    {
      at::AutoGradMode with_gradients(true);
      y = static_cast<Holder&>(*holder).layer(x);
    }
    torch::autograd::backward({y}, {d[0]});
    return {x.grad(), {}};
  }
};

}  // namespace

void add_product(const at::Tensor& grad, const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) {
    grad.addmm_(a.t(), b);
  } else if (a.is_cuda()) {
    at::Tensor out = grad;
    at::addmm_outf(grad, a.t(), b, at::kFloat, 1, 1, out);
  } else {
    grad.addmm_(a.t().to(at::kFloat), b.to(at::kFloat));
  }
}

at::Tensor embed(const Parameter& embedding, const at::Tensor& tokens) {
  // Parameters carry no gradients of autograd's own, so this makes it record.
  const at::Tensor leaf = at::empty({0}, embedding.grad.options()).set_requires_grad(true);
  return EmbedFunction::apply(leaf, embedding.value, embedding.grad, tokens);
}

at::Tensor linear(const at::Tensor& x, const AutogradLinear& linear) {
  using Maybe = std::optional<at::Tensor>;
  const bool has_bias = linear.bias.defined();
  return LinearFunction::apply(x, linear.weight.value, linear.weight.grad,
                               has_bias ? Maybe(linear.bias.value) : Maybe(),
                               has_bias ? Maybe(linear.bias.grad) : Maybe());
}

at::Tensor rms_norm(const at::Tensor& x, const Parameter& weight, double eps) {
  return NormFunction::apply(x, weight.value, weight.grad, eps);
}

SumAndNorm add_rms_norm(const at::Tensor& x, const at::Tensor& y, const Parameter& weight,
                        double eps) {
  const variable_list result = AddNormFunction::apply(x, y, weight.value, weight.grad, eps);
  return {result[0], result[1]};
}

at::Tensor gated(const at::Tensor& gate_up) { return GatedFunction::apply(gate_up); }

at::Tensor recomputed(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> layer) {
  return RecomputedFunction::apply(x, std::move(layer));
}

}  // namespace kvasir::train

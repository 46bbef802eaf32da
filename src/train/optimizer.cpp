#include "train/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

namespace kvasir::train {

Optimizer::Optimizer(const Parameters& parameters, const OptimizerOptions& options)
    : parameters_(parameters),
      options_(options),
      first_moment_(at::zeros_like(parameters.masters())),
      second_moment_(at::zeros_like(parameters.masters())) {}

std::vector<std::pair<std::string, at::Tensor>> Optimizer::state() const {
  return {{"first_moment", first_moment_}, {"second_moment", second_moment_}};
}

void Optimizer::step(double learning_rate) {
  ++steps_;
  if (options_.kind == OptimizerKind::kMuon)
    muon(learning_rate);
  else
    adamw(parameters_.range(ParameterKind::kMatrix), learning_rate, options_.weight_decay);
  adamw(parameters_.range(ParameterKind::kEmbedding), learning_rate, options_.weight_decay);
  adamw(parameters_.range(ParameterKind::kVector), learning_rate, 0);
}

void Optimizer::adamw(Parameters::Range range, double learning_rate, double weight_decay) {
  const at::Tensor step =
      at::full({}, static_cast<double>(steps_), parameters_.masters().options());
  at::_fused_adamw_({range.of(parameters_.masters())}, {range.of(parameters_.gradients())},
                    {range.of(first_moment_)}, {range.of(second_moment_)}, {}, {step},
                    learning_rate, options_.beta1, options_.beta2, weight_decay, options_.epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
}

void Optimizer::muon(double learning_rate) {
  for (const ParameterSpec& spec : parameters_.specs()) {
    if (spec.kind != ParameterKind::kMatrix) continue;
    const at::Tensor gradient = Parameters::view(parameters_.gradients(), spec);
    const at::Tensor momentum = Parameters::view(first_moment_, spec);
    momentum.lerp_(gradient, 1 - options_.momentum);
    const at::Tensor update =
        orthogonalised(gradient.lerp(momentum, options_.momentum));  // Nesterov
    // As long as AdamW's updates usually are, so that one learning rate serves both (Liu et al.,
    // "Muon is scalable for LLM training", 2025, section 2.2).
    const double scale =
        0.2 * std::sqrt(static_cast<double>(std::max(update.size(0), update.size(1))));
    const at::Tensor master = Parameters::view(parameters_.masters(), spec);
    master.mul_(1 - learning_rate * options_.weight_decay).add_(update, -learning_rate * scale);
  }
}

at::Tensor orthogonalised(const at::Tensor& x) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  const bool is_tall = x.size(0) > x.size(1);  // the iteration squares the shorter side
  at::Tensor y = (is_tall ? x.t() : x) / (x.norm() + 1e-7);
  if (x.is_cuda()) y = y.to(at::kBFloat16);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor square = at::mm(y, y.t());
    const at::Tensor powers = at::addmm(square, square, square, kB, kC);
    y = at::addmm(y, powers, y, kA, 1);
  }
  return (is_tall ? y.t() : y).to(at::kFloat);
}

}  // namespace kvasir::train

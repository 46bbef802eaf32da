// AdamW against its published steps in double; Muon's matrices.

#include "train/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "train/models.h"

namespace kvasir::train {
namespace {

TEST(AdamW, EqualsItsFormulaInDouble) {
  Parameters parameters(testing::tiny_config(), at::kCPU, at::kFloat);
  parameters.initialise(11);
  const OptimizerOptions options{.learning_rate = 3e-3, .weight_decay = 0.1};
  Optimizer optimizer(parameters, options);
  const int64_t size = parameters.masters().size(0);
  at::Tensor expected = parameters.masters().to(at::kDouble).clone();
  at::Tensor first = at::zeros_like(expected), second = at::zeros_like(expected);
  at::Tensor decay = at::zeros_like(expected);
  for (const ParameterKind kind : {ParameterKind::kMatrix, ParameterKind::kEmbedding})
    parameters.range(kind).of(decay).fill_(0.1);
  at::Generator generator;
  for (int step = 1; step <= 5; ++step) {
    const double rate = 3e-3 / step;
    parameters.gradients().normal_(0, 0.1);
    const at::Tensor gradient = parameters.gradients().slice(0, 0, size).to(at::kDouble);
    // torch.optim.AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
    expected.mul_(1 - rate * decay);
    first.mul_(0.9).add_(gradient, 0.1);
    second.mul_(0.95).add_(gradient.square(), 0.05);
    const at::Tensor deviation = (second / (1 - std::pow(0.95, step))).sqrt() + options.epsilon;
    expected.sub_(rate / (1 - std::pow(0.9, step)) * first / deviation);
    optimizer.step(rate);
  }
  // Between parameters lie gaps, which belong to none.
  for (const ParameterSpec& spec : parameters.specs()) {
    const at::Tensor difference =
        Parameters::view(parameters.masters().to(at::kDouble) - expected, spec);
    EXPECT_LE(difference.abs().max().item<double>(), 1e-6) << spec.tensor;
  }
}

TEST(Muon, BringsSingularValuesNearOne) {
  for (const auto& [rows, columns] : {std::pair{48, 32}, {32, 48}, {16, 16}}) {
    const at::Tensor x = at::empty({rows, columns}, at::kFloat).normal_();
    const at::Tensor y = orthogonalised(x);
    const at::Tensor gram = rows > columns ? y.t().mm(y) : y.mm(y.t());
    const at::Tensor diagonal = gram.diag();
    EXPECT_GT(diagonal.min().item<float>(), 0.2f);
    EXPECT_LT(diagonal.max().item<float>(), 1.5f);
    // In the gradient's direction.
    EXPECT_GT((x * y).sum().item<float>(), 0);
  }
}

TEST(Muon, LeavesTheRestToAdamW) {
  Parameters one(testing::tiny_config(), at::kCPU, at::kFloat);
  Parameters two(testing::tiny_config(), at::kCPU, at::kFloat);
  one.initialise(12);
  two.initialise(12);
  one.gradients().normal_();
  two.gradients().copy_(one.gradients());
  Optimizer(one, {.kind = OptimizerKind::kMuon}).step(1e-2);
  Optimizer(two, {.kind = OptimizerKind::kAdamW}).step(1e-2);
  for (const ParameterSpec& spec : one.specs())
    EXPECT_EQ(Parameters::view(one.masters(), spec).equal(Parameters::view(two.masters(), spec)),
              spec.kind != ParameterKind::kMatrix)
        << spec.tensor;
}

}  // namespace
}  // namespace kvasir::train

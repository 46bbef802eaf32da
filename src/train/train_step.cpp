#include "train/train_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/stack.h>

#include "train/autograd_ops.h"

namespace kvasir::train {

TrainStep::TrainStep(Parameters& parameters, Optimizer& optimizer, ProcessGroup* group,
                     const StepOptions& options)
    : parameters_(parameters),
      optimizer_(optimizer),
      group_(group),
      options_(options),
      upload_(parameters.weights().config, parameters.masters().device()) {}

at::Tensor TrainStep::run(int64_t batches, const std::function<Batch()>& next_batch,
                          double learning_rate) {
  at::Tensor gradients = parameters_.gradients();
  gradients.zero_();
  const at::Tensor sums = parameters_.extra_sums();
  for (int64_t i = 0; i < batches; ++i) {
    const DeviceBatch batch = upload_.upload(next_batch());
    AutogradOps ops(parameters_.weights(), batch);
    const at::Tensor loss = batch_loss(ops, parameters_.weights(), batch, options_.recompute);
    loss.backward();
    sums[0].add_(loss.detach());
    sums[1].add_(batch.weights.sum());
  }
  // Losses, weights and gradients in one go: gradients are sums until here, so that processes and
  // batches may have different numbers of rows that count.
  if (group_) group_->sum(gradients);

  const at::Tensor weight = sums[1].clamp_min(1);
  const at::Tensor own = gradients.slice(0, 0, parameters_.masters().size(0));
  const at::Tensor norm = own.norm() / weight;
  at::Tensor factor = weight.reciprocal();
  if (options_.clip_norm > 0) factor = factor * (options_.clip_norm / (norm + 1e-6)).clamp_max(1);
  const at::Tensor metrics = at::stack({sums[0] / weight, norm, sums[1]});
  own.mul_(factor);
  optimizer_.step(learning_rate);
  parameters_.refresh();
  return metrics;
}

double TrainStep::evaluate(const std::vector<Batch>& batches) {
  const at::NoGradGuard no_gradients;
  double loss = 0, weight = 0;
  for (const Batch& rows : batches) {
    const DeviceBatch batch = upload_.upload(rows);
    AutogradOps ops(parameters_.weights(), batch);
    loss += batch_loss(ops, parameters_.weights(), batch, false).item<double>();
    weight += batch.weights.sum().item<double>();
  }
  return weight > 0 ? loss / weight : 0;
}

}  // namespace kvasir::train

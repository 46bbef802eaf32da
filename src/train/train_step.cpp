#include "train/train_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "train/autograd_ops.h"

namespace kvasir::train {
namespace {

// Logits of answers exist for so many rows at a time.
constexpr int64_t kScoredRows = 4096;

}  // namespace

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

namespace {

// Answers of a batch: their losses, and whether each is right.
void score(const at::Tensor& x, const at::Tensor& head, const DeviceBatch& batch,
           const data::AnswerBatch& samples, double& loss, Measurement& found) {
  const std::vector<AnswerRows> answers = answers_of(samples.batch);
  const at::Tensor rows = batch.weights.nonzero().squeeze(1);
  const at::Tensor targets = batch.targets.index_select(0, rows);
  const at::Tensor answer_rows = x.index_select(0, rows).to(at::kFloat);
  std::vector<at::Tensor> hits;
  at::Tensor losses = at::zeros({}, answer_rows.options());
  for (int64_t first = 0; first < rows.size(0); first += kScoredRows) {
    const int64_t last = std::min(first + kScoredRows, rows.size(0));
    const at::Tensor chunk = targets.slice(0, first, last);
    const at::Tensor logits = at::mm(answer_rows.slice(0, first, last), head.t());
    hits.push_back(logits.argmax(1).eq(chunk));
    losses.sub_(at::log_softmax(logits, 1).gather(1, chunk.unsqueeze(1)).sum());
  }
  if (hits.empty()) return;
  loss += losses.item<double>();
  const at::Tensor all = at::cat(hits).cpu();
  const bool* hit = all.const_data_ptr<bool>();
  for (size_t i = 0; i < answers.size(); ++i) {
    const int64_t size = answers[i].last - answers[i].first;
    const bool is_exact = std::all_of(hit, hit + size, [](bool each) { return each; });
    hit += size;
    found.accuracy->add(is_exact);
    if (!samples.hops.empty()) found.by_hops[samples.hops[i]].add(is_exact);
  }
}

}  // namespace

Measurement TrainStep::evaluate(const EvaluationSet& set) {
  const at::NoGradGuard no_gradients;
  const AutogradWeights& weights = parameters_.weights();
  const at::Tensor head = weights.head.value.to(at::kFloat);  // no ties of narrow logits
  Measurement found{.name = set.name, .length = set.length};
  if (set.has_answers) found.accuracy.emplace();
  double loss = 0, weight = 0;
  for (const data::AnswerBatch& rows : set.batches) {
    const DeviceBatch batch = upload_.upload(rows.batch);
    AutogradOps ops(weights, batch);
    weight += batch.weights.sum().item<double>();
    if (set.has_answers)
      score(final_rows(ops, weights, false), head, batch, rows, loss, found);
    else
      loss += batch_loss(ops, weights, batch, false).item<double>();
  }
  found.loss = weight > 0 ? loss / weight : 0;
  return found;
}

}  // namespace kvasir::train

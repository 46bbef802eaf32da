#pragma once
// The operations of models/forward.h in differentiable functions: the same forward, for training.

#include <ATen/core/Tensor.h>

#include "train/device_batch.h"
#include "train/functions.h"
#include "train/parameters.h"

namespace kvasir::train {

class AutogradOps {
 public:
  using Weights = AutogradWeights;
  using Layer = AutogradLayer;
  // The residual stream; `pending` is still to be added, which the next norm does on the way.
  struct Residual {
    at::Tensor x, pending;  // [rows, hidden]
  };
  using Activation = at::Tensor;  // [rows, ...]
  using Heads = at::Tensor;       // [rows, (q_heads + 2 kv_heads) * head_dim]
  using Logits = at::Tensor;      // [rows, vocab]

  // Both must outlive the backward pass.
  AutogradOps(const AutogradWeights& weights, const DeviceBatch& batch);

  void begin_layer(size_t) {}
  Residual embed();
  Activation norm(Residual& x, const Parameter& weight);
  Heads project_heads(const Activation& x, const Layer& layer, bool narrow);
  Activation attend(const Heads& heads, const Layer& layer, bool narrow);
  Residual narrow(const Residual& x) { return x; }
  void add_linear(Residual& x, const Activation& a, const AutogradLinear& linear,
                  const Parameter& norm);
  Activation gated(const Activation& x, const Layer& layer);
  // Every row's logits at once: for tests of small models.
  Logits head(const Activation& x);
  bool stopped() const { return false; }

 private:
  Activation head_norm(const Activation& heads, const Parameter& weight);

  const AutogradWeights& weights_;
  const DeviceBatch& batch_;
  HeadShape shape_;
};

// The last hidden rows [rows, hidden], normalised: what the head takes. `recompute`: as below.
at::Tensor final_rows(AutogradOps& ops, const AutogradWeights& weights, bool recompute);

// The sum of the batch's weighted losses (f32 scalar). Its backward() adds to the gradients of the
// parameters; without gradients (at::NoGradGuard) it only evaluates. `recompute`: layers keep their
// inputs alone and are run again in the backward pass.
at::Tensor batch_loss(AutogradOps& ops, const AutogradWeights& weights, const DeviceBatch& batch,
                      bool recompute);

}  // namespace kvasir::train

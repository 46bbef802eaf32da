#pragma once
// AdamW for all parameters, or Muon for the layers' matrices and AdamW for the rest.

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "train/parameters.h"

namespace kvasir::train {

enum class OptimizerKind : uint8_t { kAdamW, kMuon };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double learning_rate = 3e-4;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;  // not of norms and biases
  double momentum = 0.95;     // Muon's
};

class Optimizer {
 public:
  Optimizer(const Parameters& parameters, const OptimizerOptions& options);

  // Updates the masters from the gradients as they are (summed, scaled and clipped by the caller).
  void step(double learning_rate);

  // What a checkpoint keeps beside the masters: flat f32 arrays as long as those (one for each
  // moment), and the number of steps.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  void adamw(Parameters::Range range, double learning_rate, double weight_decay);
  void muon(double learning_rate);

  const Parameters& parameters_;
  OptimizerOptions options_;
  at::Tensor first_moment_;   // of AdamW; the momentum of Muon's matrices
  at::Tensor second_moment_;  // of AdamW
  int64_t steps_ = 0;
};

// The nearest matrix with orthonormal rows or columns, roughly: five steps of a quintic
// Newton-Schulz iteration that bring all singular values into about [0.7, 1.2] (Jordan et al.,
// "Muon", 2024). In bf16 on GPUs, f32 on the CPU. x [rows, columns]; returns f32.
at::Tensor orthogonalised(const at::Tensor& x);

}  // namespace kvasir::train

#pragma once
// One step of training: gradients of some batches, their sum over processes, clipping, the
// optimiser.

#include <ATen/core/Tensor.h>

#include <functional>

#include "train/device_batch.h"
#include "train/evaluation.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/process_group.h"

namespace kvasir::train {

struct StepOptions {
  double clip_norm = 1;    // of the mean gradient; 0: no limit
  bool recompute = false;  // layers keep their inputs alone
};

class TrainStep {
 public:
  // All must outlive it; `group` may be null (one process).
  TrainStep(Parameters& parameters, Optimizer& optimizer, ProcessGroup* group,
            const StepOptions& options);

  // Queues one step over `batches` batches. Returns [3] f32 on the device: mean loss, norm of the
  // mean gradient before clipping, sum of the rows' weights over all processes. Does not wait for a
  // GPU.
  at::Tensor run(int64_t batches, const std::function<Batch()>& next_batch, double learning_rate);

  // Without a step.
  Measurement evaluate(const EvaluationSet& set);

 private:
  Parameters& parameters_;
  Optimizer& optimizer_;
  ProcessGroup* group_;
  StepOptions options_;
  BatchUpload upload_;
};

}  // namespace kvasir::train

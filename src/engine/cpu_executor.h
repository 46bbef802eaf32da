#pragma once
// The executor over the CPU's kernels.

#include <memory>

#include "base/thread_pool.h"
#include "engine/executor.h"
#include "kernels/page.h"
#include "models/cpu_ops.h"

namespace kvasir::engine {

class CpuExecutor final : public Executor {
 public:
  // `pool` and `weights` outlive the executor; `pages` is where the KV manager keeps its pages.
  CpuExecutor(ThreadPool& pool, const models::CpuWeights& weights, const kernels::PagePool& pages,
              const models::ScratchOptions& options);

  int64_t vocab_size() const override { return weights_.config.vocab_size; }
  int64_t max_positions() const override { return options_.max_length; }
  int64_t max_step_tokens() const override { return options_.max_rows; }
  Result<StepResult> run(const Step& step) override;
  std::vector<Result<SampleResult>> sample(std::span<const Draw> draws) override;
  std::span<const float> logits(size_t span) override;
  // Called for every layer of later steps, which then have no logits; null: nobody.
  void observe(models::AttentionObserver* observer) { ops_.observe(observer); }

 private:
  void lay_out(const Step& step);

  ThreadPool& pool_;
  const models::CpuWeights& weights_;
  models::ScratchOptions options_;
  models::Rotary rotary_;
  models::CpuOps ops_;
  models::StepLayout layout_;
  const float* logits_ = nullptr;  // [logit rows, vocab] of the last step
};

// The longest sequence that a model is made for: max_positions, times the factor where rotary
// scaling is dynamic (its frequencies adapt beyond max_positions).
int64_t model_max_length(const formats::ModelConfig& config);

}  // namespace kvasir::engine

#pragma once
// The executor over a GPU's kernels. Steps of decode tokens alone replay a CUDA graph, one for each
// size of batch; the others are queued layer by layer.

#include <map>
#include <memory>
#include <vector>

#include "cuda/context.h"
#include "cuda/device.h"
#include "engine/executor.h"
#include "engine/sampling_cuda.h"
#include "engine/step_inputs_cuda.h"
#include "models/ops_cuda.h"

namespace kvasir::engine {

class CudaExecutor final : public Executor {
 public:
  struct Options {
    models::ScratchOptions scratch;
    int64_t pool_blocks = 0;
  };

  // `weights` outlives the executor; `pages` is where the KV manager keeps its pages, in the memory
  // of the device that is current on the calling thread. Everything is queued on `stream`.
  CudaExecutor(const cuda::Device& device, cudaStream_t stream, const models::CudaWeights& weights,
               const kernels::PagePool& pages, const Options& options);
  ~CudaExecutor() override;
  // What the constructor allocates on the device.
  static int64_t device_bytes(const cuda::Device& device, const formats::ModelConfig& config,
                              DType dtype, const Options& options);

  int64_t vocab_size() const override { return weights_.config.vocab_size; }
  int64_t max_positions() const override { return options_.scratch.max_length; }
  int64_t max_step_tokens() const override { return options_.scratch.max_rows; }
  bool is_on_gpu() const override { return true; }
  // Decode steps come back before the device has finished them; sample() and logits() wait.
  Result<StepResult> run(const Step& step) override;
  std::vector<Result<SampleResult>> sample(std::span<const Draw> draws) override;
  std::span<const float> logits(size_t span) override;

 private:
  void run_graph(const Step& step);
  void capture(int64_t rows);
  Result<void> run_layers();
  StepResult count_pairs(const Step& step);

  int device_;
  cuda::Context context_;
  const models::CudaWeights& weights_;
  Options options_;
  models::Rotary rotary_;
  models::CudaOps ops_;
  StepInputs inputs_;         // of steps that are queued layer by layer
  StepInputs decode_inputs_;  // of graphs
  CudaSampling sampling_;
  std::map<int64_t, cudaGraphExec_t> graphs_;  // by rows
  const float* logits_ = nullptr;              // [logit rows, vocab] of the last step, device
  std::vector<std::pair<int64_t, int64_t>> logit_rows_;  // first and count, of each span
  cuda::PinnedMemory host_logits_;
};

}  // namespace kvasir::engine

#pragma once
// Chooses tokens on the GPU where their logits lie: Sampler's rules, all draws of a step at once.

#include <cstdint>
#include <span>
#include <vector>

#include "cuda/context.h"
#include "cuda/memory.h"
#include "engine/executor.h"
#include "kernels/sample/sample_cuda.h"

namespace kvasir::engine {

class CudaSampling {
 public:
  CudaSampling(int64_t max_draws, int64_t vocab);
  static int64_t device_bytes(int64_t max_draws, int64_t vocab);

  // `rows`: the row of logits [*, vocab] of each draw. Waits for the device. At most
  // kMaxTopLogprobs log-probabilities a draw.
  std::vector<Result<SampleResult>> sample(const cuda::Context& context, const float* logits,
                                           std::span<const Draw> draws,
                                           std::span<const int64_t> rows);

 private:
  void describe(const cuda::Context& context, std::span<const Draw> draws,
                std::span<const int64_t> rows);
  void upload_tables(const cuda::Context& context, const Draw& draw, int64_t index,
                     kernels::SampleDraw& described);

  int64_t max_draws_, vocab_;
  cuda::PinnedMemory host_draws_, host_choices_;
  cuda::DeviceMemory draws_, choices_;
  cuda::DeviceMemory tables_;  // [max_draws, vocab] counts, then as many marks
};

}  // namespace kvasir::engine

#pragma once
// A step's spans, row by row, on their way to a GPU: written into page-locked memory, copied to
// places that stay the same, so that a captured graph finds them.

#include <cstdint>
#include <vector>

#include "cuda/memory.h"
#include "engine/executor.h"
#include "models/ops_cuda.h"
#include "models/rotary.h"

namespace kvasir::engine {

class StepInputs {
 public:
  struct Limits {
    int layers = 0;
    models::ScratchOptions scratch;
    int64_t pool_blocks = 0;  // no sequence has more
  };

  // `rotary` outlives it.
  StepInputs(const Limits& limits, const models::Rotary& rotary);
  static int64_t device_bytes(const Limits& limits, const models::Rotary& rotary);

  // Writes and copies a step. `padded_rows` >= rows: padding rows follow, each with an empty span;
  // only where every span has one row and its logits. The caller has waited for the step before.
  void write(const Step& step, int64_t padded_rows, cudaStream_t stream);
  int64_t max_rows() const { return limits_.scratch.max_rows; }
  // The step for the device, valid until the next write(). With padded_rows, it is the same for
  // every step of that many rows.
  const models::DeviceStep& device_step() const { return step_; }
  int64_t first_logit_row(size_t span) const { return first_logit_row_.at(span); }

 private:
  struct Arrays {
    int32_t *tokens, *positions, *first_page, *rope_table, *logit_row, *logit_first_page;
    kernels::CudaAttentionSpan *decode, *prefill, *last_decode, *last_prefill;
    float* frequencies;
    size_t bytes;
  };
  static Arrays lay_out(const Limits& limits, const models::Rotary& rotary, std::byte* base);
  void write_rows(const Step& step);
  void write_tables(const Step& step, cudaStream_t stream);
  void write_frequencies(const StepSpan& span, int32_t table);

  Limits limits_;
  const models::Rotary& rotary_;
  int64_t table_capacity_;  // entries of one layer
  cuda::PinnedMemory host_memory_, host_tables_;
  cuda::DeviceMemory device_memory_, device_tables_;
  Arrays host_, device_;
  models::DeviceStep step_;
  std::vector<int64_t> first_logit_row_, first_entry_;
  std::vector<models::PlannedSpan> planned_, last_planned_;
  int64_t entries_ = 0;  // of one layer in this step
};

}  // namespace kvasir::engine

#pragma once
// The operations of the forward pass on a GPU: the engine's kernels over paged KV, in scratch
// memory that is allocated once. Everything is queued on one stream; nothing waits for the device
// but begin_layer(), so that a cancelled step ends within two layers.

#include <cstdint>
#include <future>
#include <memory>

#include "base/cancel.h"
#include "cuda/context.h"
#include "cuda/memory.h"
#include "kernels/gemm/wide_gemm_cuda.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "models/planned_attention_cuda.h"
#include "models/scratch.h"
#include "models/weights_cuda.h"

namespace kvasir::models {

// Spans of one kind, in device memory; the bounds are the host's.
struct DeviceSpans {
  const kernels::CudaAttentionSpan* spans = nullptr;  // [count]
  int count = 0;
  int64_t rows = 0;        // of all spans
  int64_t max_length = 0;  // of any sequence
};

// One step, row by row, in device memory. A row whose first_page is negative is padding.
struct DeviceStep {
  int64_t rows = 0;
  int64_t logit_rows = 0;
  const int32_t* tokens = nullptr;            // [rows]
  const int32_t* positions = nullptr;         // [rows]
  const int32_t* first_page = nullptr;        // [rows]: where the row's sequence has its pages
  const int32_t* rope_table = nullptr;        // [rows], or null: table 0
  const int32_t* logit_row = nullptr;         // [logit_rows], ascending
  const int32_t* logit_first_page = nullptr;  // [logit_rows]
  const float* frequencies = nullptr;         // [tables, rotary_dim / 2]
  // [layers][table_entries]: spans and rows point into one layer's.
  const uint32_t* page_tables = nullptr;
  int64_t table_entries = 0;
  DeviceSpans decode, prefill;            // every row
  DeviceSpans last_decode, last_prefill;  // rows with logits, numbered among themselves
  // Prompts with a planner, in host memory; they are in none of the lists above. The last layer has
  // queries for rows with logits only, if not for all.
  std::span<const PlannedSpan> planned, last_planned;
  bool deterministic = false;
  bool captured = false;                // queued for a graph: begin_layer() does not wait
  const CancelToken* cancel = nullptr;  // may be null

  bool every_row_has_logits() const { return logit_rows == rows; }
};

struct CudaRotary {
  int rotary_dim = 0;
  float factor = 1;
};

class CudaOps {
 public:
  using Weights = CudaWeights;
  using Layer = CudaLayerWeights;
  struct Rows {
    float* data = nullptr;
    int64_t rows = 0;
  };
  struct Activation {
    const void* data = nullptr;  // dense, in the weights' dtype
    int64_t rows = 0;
    int64_t columns = 0;
  };
  using Residual = Rows;
  using Logits = Rows;
  struct Heads {
    const void* data = nullptr;
    int64_t rows = 0;
  };

  // The device of `weights` is current on the calling thread. cuBLASLt is loaded meanwhile on
  // another thread and waited for by the first product that needs it.
  CudaOps(const cuda::Context& context, int device, const CudaWeights& weights,
          const kernels::PagePool& pages, int64_t page_count, const CudaRotary& rotary,
          const ScratchOptions& options);
  ~CudaOps();
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;
  static int64_t scratch_bytes(const cuda::Context& context, const formats::ModelConfig& config,
                               DType dtype, int rotary_dim, const ScratchOptions& options);

  // Sets the step that the following operations belong to; it must outlive them.
  void begin_step(const DeviceStep& step);
  // With overlap, kernels begin while the ones before them end.
  void set_overlap(bool overlap) { context_.overlap = overlap; }

  void begin_layer(size_t index);
  Residual embed();
  Activation norm(Residual x, const float* weight);
  Heads project_heads(Activation x, const Layer& layer, bool narrow);
  Activation attend(Heads heads, const Layer& layer, bool narrow);
  Residual narrow(Residual x);
  void add_linear(Residual& x, Activation a, const DeviceLinear& linear, const float* norm);
  Activation gated(Activation x, const Layer& layer);
  Logits head(Activation x);
  bool stopped() const { return stopped_; }
  // What attention did for the step's planned spans. Waits for the device.
  std::vector<PlannedAttention::Count> planned_counts() { return planned_attention_.counts(); }

 private:
  struct Buffers {
    float *residual, *narrow_residual;  // [max_rows | max_logit_rows, hidden]
    float* outputs;                     // [max_rows, hidden]; null where no outputs are normed
    float* cos_sin;                     // [max_rows, rotary_dim]
    float* logits;                      // [max_logit_rows, vocab]
    std::byte *normed, *narrowed;       // [max_rows | max_logit_rows, hidden]
    std::byte *heads, *narrow_heads;    // [.., (q_heads + 2 kv_heads) * head_dim], [.., q size]
    std::byte *queries, *mixed;         // [max_rows, q_heads * head_dim]
    std::byte *gate_up, *inner;         // [max_rows, 2 intermediate], [max_rows, intermediate]
    std::byte *decode, *prefill, *last_decode, *last_prefill;  // workspaces of attention
    std::byte* gemm;                                           // workspace of cuBLASLt
    int64_t bytes;
  };
  // What one list of spans works in, and the window that it has been prepared for in this step.
  struct Work {
    std::byte* workspace = nullptr;
    int64_t window = -1;  // -1 = not yet
  };
  static Buffers lay_out(const cuda::Context& context, const formats::ModelConfig& config,
                         DType dtype, int rotary_dim, const ScratchOptions& options,
                         std::byte* base);
  kernels::CudaAttentionArgs attention_args(const DeviceSpans& spans, std::byte* workspace,
                                            int64_t window) const;
  void attend_spans(const DeviceSpans& decode, Work& decode_work, const DeviceSpans& prefill,
                    Work& prefill_work, int64_t window);
  void gemm(Activation a, const DeviceLinear& linear, kernels::Epilogue epilogue, void* c,
            DType c_dtype, int64_t c_columns);
  kernels::WideGemm& wide_gemm();
  bool is_narrow(bool narrow) const { return narrow && !step_->every_row_has_logits(); }

  cuda::Context context_;
  const CudaWeights& weights_;
  kernels::PagePool pages_;
  int64_t page_count_;
  CudaRotary rotary_;
  bool interleaved_rotary_;
  cuda::DeviceMemory memory_;
  Buffers buffers_;
  Work decode_, prefill_, last_decode_, last_prefill_;
  PlannedAttention planned_attention_;
  std::future<std::unique_ptr<kernels::WideGemm>> loading_;
  std::unique_ptr<kernels::WideGemm> wide_gemm_;
  cudaEvent_t layer_begun_ = nullptr;  // the last layer that was queued

  const DeviceStep* step_ = nullptr;
  size_t layer_index_ = 0;
  bool stopped_ = false;
};

}  // namespace kvasir::models

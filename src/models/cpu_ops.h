#pragma once
// The operations of the forward pass on the CPU: the engine's kernels over paged KV, in scratch
// memory that is allocated once.

#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.h"
#include "compress/compressor.h"
#include "kernels/page.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kvasir/request.h"
#include "models/attention_observer.h"
#include "models/cpu_weights.h"
#include "models/eviction.h"
#include "models/rotary.h"
#include "models/scratch.h"
#include "prefill/planner.h"

namespace kvasir::models {

// One span of a step: `rows` tokens of one sequence from `first_position` on.
struct SpanLayout {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_position = 0;
  std::span<const uint32_t* const> page_tables;  // [layers]
  int64_t first_logit_row = 0;                   // among the rows that need logits
  int64_t logit_rows = 0;                        // 0, 1 (the last) or rows
  const prefill::Planner* planner = nullptr;     // null: dense
  int64_t prompt_length = 0;                     // for the planner
  // Of evicted KV: see StepSpan.
  std::span<const int64_t> stored;
  const compress::Compressor* compressor = nullptr;
  std::span<const int64_t> kept;
  std::span<const uint32_t* const> kept_tables;

  // The slot of the first token in a layer's pages: its position, where none were evicted.
  int64_t first_slot(size_t layer) const { return stored.empty() ? first_position : stored[layer]; }
};

// One step, laid out row by row.
struct StepLayout {
  std::vector<TokenId> tokens;  // [rows]
  std::vector<float> cos_sin;   // [rows, rotary_dim]
  std::vector<int32_t> logit_rows;
  std::vector<SpanLayout> spans;
  bool deterministic = false;

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

class CpuOps {
 public:
  using Weights = CpuWeights;
  using Layer = CpuLayerWeights;
  // Rows of a scratch buffer. Residual and logits are f32, activations have the weights' dtype.
  struct Rows {
    void* data = nullptr;
    int64_t rows = 0;
  };
  struct Activation {
    void* data = nullptr;
    int64_t rows = 0;
    int64_t stride = 0;  // elements
  };
  using Residual = Rows;
  using Logits = Rows;
  using Heads = Rows;

  CpuOps(const kernels::CpuContext& context, const CpuWeights& weights,
         const kernels::PagePool& pages, const ScratchOptions& options);
  static int64_t scratch_bytes(const formats::ModelConfig& config, DType dtype, int threads,
                               const ScratchOptions& options);

  // Sets the step that the following operations belong to; it must outlive them. `cancel` may be
  // null.
  void begin_step(const StepLayout& step, const CancelToken* cancel);
  // Called for every layer of later steps, which then compute no logits; null: nobody.
  void observe(AttentionObserver* observer) { observer_ = observer; }
  // What attention did for a span of the step so far.
  struct SpanCount {
    uint64_t scored_pairs = 0;  // query-key pairs, those of estimates included
    int64_t planned_heads = 0;  // by methods that plan from queries
    int64_t dense_heads = 0;    // of these
    double plan_seconds = 0;
  };
  std::span<const SpanCount> span_counts() const { return span_counts_; }
  double attention_seconds() const { return attention_seconds_; }

  void begin_layer(size_t index);
  Residual embed();
  Activation norm(Residual x, const std::vector<float>& weight);
  Heads project_heads(Activation x, const Layer& layer, bool narrow);
  Activation attend(Heads heads, const Layer& layer, bool narrow);
  Residual narrow(Residual x);
  void add_linear(Residual& x, Activation a, const PackedLinear& linear,
                  const std::vector<float>& norm);
  Activation gated(Activation x, const Layer& layer);
  Logits head(Activation x);
  bool stopped() const { return context_.cancelled(); }

 private:
  struct Buffers {
    float* residual;
    std::byte* normed;    // [max_rows, hidden], rows hidden_stride_ apart
    std::byte* narrowed;  // [max_logit_rows, hidden]
    float* heads;         // [max_rows, (q_heads + 2 kv_heads) * head_dim]
    float* narrow_heads;  // [max_logit_rows, q_heads * head_dim]
    std::byte* queries;   // [max_rows, q_heads * head_dim]
    std::byte* mixed;     // [max_rows, q_heads * head_dim]
    std::byte* inner;     // [max_rows, intermediate], rows inner_stride_ apart
    float* outputs;       // [max_rows, hidden]; null where blocks' outputs are not normed
    float* logits;        // [max_logit_rows, vocab]
    std::byte* workspace;
    int64_t bytes;
  };
  static Buffers lay_out(const formats::ModelConfig& config, DType dtype, int threads,
                         const ScratchOptions& options, std::byte* base);
  void gemm(Activation a, const PackedLinear& linear, kernels::Epilogue epilogue, void* c,
            DType c_dtype, int64_t c_stride);
  void lay_out_attention(const Layer& layer, bool narrow);
  void list_evicting_rows(int64_t rotary_dim);
  void project_evicting_queries(Activation x, const Layer& layer);
  void evict(bool narrow);
  prefill::RowRange plan_span(size_t index, const kernels::AttentionSpan& work, int64_t window);

  kernels::CpuContext context_;
  const CpuWeights& weights_;
  kernels::PagePool pages_;
  Memory memory_;
  Buffers buffers_;
  int64_t act_bytes_;
  int64_t hidden_stride_, inner_stride_;
  bool interleaved_rotary_;

  const StepLayout* step_ = nullptr;
  size_t layer_index_ = 0;
  std::vector<uint32_t> slot_page_;  // of the current layer
  std::vector<uint8_t> slot_row_;
  std::vector<float> narrow_cos_sin_;
  std::vector<SpanCount> span_counts_;
  double attention_seconds_ = 0;
  // What attention of the current layer runs over. A span may be three: rows with a plan
  // between dense ones.
  std::vector<kernels::AttentionSpan> attention_spans_;
  std::vector<size_t> span_of_attention_;          // [attention_spans_]: of the step
  std::vector<uint64_t> layer_pairs_;              // [attention_spans_]
  std::vector<prefill::PlanBuffer> plan_buffers_;  // [spans of the step, or more]
  std::vector<kernels::AttentionPlan> plans_;      // [plan_buffers_]
  prefill::Workspace plan_workspace_;
  // In the last layer, the queries that rank entries: those of `evicting_rows_`, which need no
  // logits.
  std::vector<int32_t> evicting_rows_;
  EvictingQueries evicting_;
  AttentionObserver* observer_ = nullptr;
  std::vector<float> observed_lse_;  // [rows, q_heads], where there is an observer
};

}  // namespace kvasir::models

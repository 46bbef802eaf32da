#pragma once
// Prefill attention of spans whose requests have a planner, on a GPU: plans that follow from
// positions come from the host, those that follow from queries and keys are made by kernels, layer
// by layer, without the host waiting for anything.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cuda/context.h"
#include "cuda/memory.h"
#include "cuda/timeline.h"
#include "formats/model_config.h"
#include "kernels/attention_planner/flexprefill_plan_cuda.h"
#include "kernels/attention_planner/minference_plan_cuda.h"
#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/attention_planner/xattention_plan_cuda.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "models/scratch.h"
#include "prefill/planner.h"

namespace kvasir::models {

// Consecutive tokens of a prompt.
struct PlannedSpan {
  const prefill::Planner* planner = nullptr;
  int64_t prompt_length = 0;
  kernels::CudaAttentionSpan span;
  size_t step_span = 0;  // number of it in the step
};

class PlannedAttention {
 public:
  // What attention did for one planned span, over all layers.
  struct Count {
    size_t step_span = 0;
    uint64_t scored_pairs = 0;  // query-key pairs, those of estimates included
    int64_t planned_heads = 0;  // by methods that plan from queries
    int64_t dense_heads = 0;    // of these
    double plan_seconds = 0;
    double attention_seconds = 0;  // of the whole step, without plans
  };

  // `windows`: [layers], 0 = unlimited.
  PlannedAttention(const cuda::Context& context, const formats::ModelConfig& config, DType dtype,
                   std::vector<int64_t> windows, const ScratchOptions& options);
  static int64_t device_bytes(const cuda::Context& context, const formats::ModelConfig& config,
                              DType dtype, const ScratchOptions& options);

  // Lays out what the spans attend to in every layer, with `last` for the last one, and copies it
  // to the device. The step before has ended. A span of a step is in both at the same place, or in
  // `spans` alone.
  void begin_step(std::span<const PlannedSpan> spans, std::span<const PlannedSpan> last);
  // Attention of the layer's other spans, where there are any, is queued between these two.
  void begin_layer();
  // `attention` is that of the layer, without spans. Queues everything on the stream.
  void attend(size_t layer, const kernels::CudaAttentionArgs& attention);
  // Of the spans given to begin_step(). Waits for the device.
  std::vector<Count> counts();

 private:
  struct Sizes {
    int layers = 0, q_heads = 0, kv_heads = 0, head_dim = 0;
    int64_t max_spans = 0, max_length = 0;
    // The most that any method needs: of a head's plan, and to make it.
    int32_t segments = 0, columns = 0, words = 0;
    size_t planner = 0;
    size_t attention = 0, staging = 0;
  };
  struct Buffers {
    std::byte *attention, *planner, *staging;
    kernels::CudaPlanArrays arrays;  // of one span, but for reports: [layers, spans, q_heads]
    uint64_t* scored_pairs;          // [spans, kMostParts]
    size_t bytes;
  };
  // A planned span in one layer: some consecutive of spans_, one of which may have a plan.
  struct Part {
    size_t first_span = 0;
    int spans = 0;
    size_t count = 0;  // of counts_
    bool has_plan = false;
    size_t plan = 0;                           // of plans_
    std::optional<prefill::GpuRecipe> recipe;  // of a plan from queries
    size_t options = 0;                        // of budgets_ or shares_, by the recipe
    int64_t rows = 0, length = 0;
  };
  // Marks of timeline_.
  struct Interval {
    size_t first = 0, last = 0;
    size_t count = 0;  // of counts_, for plans
  };
  // Where a static plan lies in static_heads_ and static_segments_.
  struct StaticPlan {
    size_t plan = 0, heads = 0, segments = 0;
  };

  static Sizes sizes_of(const cuda::Context& context, const formats::ModelConfig& config,
                        DType dtype, const ScratchOptions& options);
  static Buffers lay_out(const Sizes& sizes, std::byte* base);
  static kernels::MinferenceBounds minference_bounds(const Sizes& sizes, int64_t rows,
                                                     int64_t length);
  static kernels::XAttentionBounds xattention_bounds(const Sizes& sizes, int stride, int64_t rows,
                                                     int64_t length);
  static kernels::FlexPrefillBounds flexprefill_bounds(const Sizes& sizes, int64_t rows,
                                                       int64_t length);
  size_t take_options(const prefill::GpuRecipe& recipe);
  uint64_t estimated_pairs(const prefill::GpuRecipe& recipe, const prefill::Chunk& chunk) const;
  Part part_of(const PlannedSpan& planned, size_t layer, size_t count_index);
  void upload();
  void make_plan(const Part& part, size_t report, const kernels::CudaAttentionArgs& attention);

  cuda::Context context_;
  kernels::AttentionDesc desc_;
  std::vector<int64_t> windows_;
  Sizes sizes_;
  cuda::DeviceMemory memory_;
  Buffers buffers_;
  cuda::PinnedMemory staging_, read_back_;
  cuda::Timeline timeline_;
  std::vector<Interval> layer_times_, plan_times_;

  std::vector<std::vector<Part>> parts_;  // [layers][spans]
  std::vector<Count> counts_;
  std::vector<kernels::CudaAttentionSpan> spans_;
  std::vector<kernels::CudaAttentionPlan> plans_;
  std::vector<kernels::HeadBudget> budgets_;
  std::vector<float> shares_;
  std::vector<StaticPlan> static_plans_;
  std::vector<kernels::HeadProgram> static_heads_;
  std::vector<kernels::PlanSegment> static_segments_;
  prefill::PlanBuffer plan_buffer_;
  const kernels::CudaAttentionSpan* device_spans_ = nullptr;
  const kernels::CudaAttentionPlan* device_plans_ = nullptr;
  const kernels::HeadBudget* device_budgets_ = nullptr;
  const float* device_shares_ = nullptr;
};

}  // namespace kvasir::models

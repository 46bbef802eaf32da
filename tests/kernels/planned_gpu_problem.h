#pragma once
// Attention problems whose spans are planned by a method on the device: the planner's kernels and
// the attention over what they wrote, in memory of the sizes that they ask for.

#include <string>

#include "kernels/attention_planner/flexprefill_plan_cuda.h"
#include "kernels/attention_planner/minference_plan_cuda.h"
#include "kernels/attention_planner/xattention_plan_cuda.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {

class PlannedGpuProblem {
 public:
  static std::vector<std::string> methods() { return {"minference", "xattention", "flexprefill"}; }

  // Of four query heads. Arrays are for every problem of the same numbers of spans, rows and pages.
  PlannedGpuProblem(const cuda::Context& context, const std::string& method,
                    const GpuAttentionProblem& problem)
      : context_(context),
        method_(method),
        span_count_(static_cast<int>(problem.spans().size())),
        rows_(problem.rows()),
        length_(problem.max_length()),
        shape_(problem.shape()),
        sizes_(sizes()),
        programs_(heads()),
        segments_(heads() * static_cast<size_t>(sizes_.head_segments)),
        columns_(heads() * static_cast<size_t>(sizes_.head_columns)),
        bits_(heads() * static_cast<size_t>(sizes_.head_words)),
        reports_(heads()),
        plans_(static_cast<size_t>(span_count_)),
        planner_(planner_bytes()),
        attention_(problem.arrays(problem.spans().size(), prefill_attention_workspace_bytes(
                                                              problem.desc(), context, span_count_,
                                                              problem.max_rows(), true))) {
    std::vector<CudaAttentionPlan> plans;
    for (int span = 0; span < span_count_; ++span)
      plans.push_back(arrays().plan(span, shape_.q_heads));
    plans_.write(plans);
  }

  // The problem's arguments with spans that have plans.
  CudaAttentionArgs args(const GpuAttentionProblem& problem) {
    write_spans(problem.spans());
    CudaAttentionArgs args = problem.args(attention_);
    args.plans = plans_.data();
    args.plan_count = span_count_;
    return args;
  }
  void write_spans(std::vector<CudaAttentionSpan> spans) {
    for (size_t i = 0; i < spans.size(); ++i) spans[i].plan = static_cast<int32_t>(i);
    attention_.spans.write(spans);
  }
  void queue(const CudaAttentionArgs& args) const {
    plan(args);
    build_prefill_attention(context_, args);
    build_prefill_plans(context_, args);
    run_prefill_attention(context_, args);
  }
  GpuAttentionResult read(const GpuAttentionProblem& problem) const {
    return problem.read(attention_);
  }
  std::vector<HeadReport> reports() const { return reports_.read(); }

 private:
  size_t heads() const { return static_cast<size_t>(span_count_ * shape_.q_heads); }
  MinferenceBounds minference() const {
    return {.q_heads = shape_.q_heads,
            .kv_heads = shape_.kv_heads,
            .head_dim = shape_.head_dim,
            .span_count = span_count_,
            .max_rows = rows_,
            .max_length = length_,
            .budgets = {.most_columns = 90, .most_offsets = 160},
            .has_block_sparse = true};
  }
  XAttentionBounds xattention() const {
    return {.q_heads = shape_.q_heads,
            .kv_heads = shape_.kv_heads,
            .span_count = span_count_,
            .max_rows = rows_,
            .max_length = length_};
  }
  FlexPrefillBounds flexprefill() const {
    return {.q_heads = shape_.q_heads,
            .kv_heads = shape_.kv_heads,
            .head_dim = shape_.head_dim,
            .span_count = span_count_,
            .max_rows = rows_,
            .max_length = length_};
  }
  CudaPlanArrays sizes() const {
    if (method_ == "minference") return minference_plan_sizes(minference());
    if (method_ == "xattention") return xattention_plan_sizes(xattention());
    return flexprefill_plan_sizes(flexprefill());
  }
  size_t planner_bytes() const {
    if (method_ == "minference") return minference_plan_workspace_bytes(minference());
    if (method_ == "xattention") return xattention_plan_workspace_bytes(xattention());
    return flexprefill_plan_workspace_bytes(flexprefill());
  }
  CudaPlanArrays arrays() const {
    CudaPlanArrays arrays = sizes_;
    arrays.programs = programs_.data();
    arrays.segments = segments_.data();
    arrays.columns = columns_.data();
    arrays.block_bits = bits_.data();
    arrays.reports = reports_.data();
    return arrays;
  }
  void plan(const CudaAttentionArgs& args) const {
    if (method_ == "minference")
      return run_minference_plan(context_, {.q = args.q,
                                            .q_row_stride = args.q_row_stride,
                                            .pages = args.pages,
                                            .scale = args.scale,
                                            .heads = budgets_.data(),
                                            .spans = args.spans,
                                            .page_tables = args.page_tables,
                                            .bounds = minference(),
                                            .densest = 1,
                                            .blocks = 6,
                                            .plan = arrays(),
                                            .workspace = planner_.data()});
    if (method_ == "xattention")
      return run_xattention_plan(context_, {.q = args.q,
                                            .q_row_stride = args.q_row_stride,
                                            .pages = args.pages,
                                            .scale = args.scale,
                                            .shares = shares_.data(),
                                            .spans = args.spans,
                                            .page_tables = args.page_tables,
                                            .bounds = xattention(),
                                            .densest = 1,
                                            .plan = arrays(),
                                            .workspace = planner_.data()});
    // Heads are as likely query-aware as not.
    run_flexprefill_plan(context_, {.q = args.q,
                                    .q_row_stride = args.q_row_stride,
                                    .pages = args.pages,
                                    .scale = args.scale,
                                    .spans = args.spans,
                                    .page_tables = args.page_tables,
                                    .bounds = flexprefill(),
                                    .gamma = 0.6,
                                    .tau = 0.35,
                                    .densest = 1,
                                    .plan = arrays(),
                                    .workspace = planner_.data()});
  }

  cuda::Context context_;
  std::string method_;
  int span_count_;
  int64_t rows_, length_;
  AttentionShape shape_;
  CudaPlanArrays sizes_;
  testing::DeviceArray<HeadProgram> programs_;
  testing::DeviceArray<PlanSegment> segments_;
  testing::DeviceArray<int32_t> columns_;
  testing::DeviceArray<uint32_t> bits_;
  testing::DeviceArray<HeadReport> reports_;
  testing::DeviceArray<CudaAttentionPlan> plans_;
  testing::DeviceArray<std::byte> planner_;
  GpuAttentionArrays attention_;
  testing::DeviceArray<HeadBudget> budgets_{
      std::vector<HeadBudget>{{HeadKind::kVerticalSlash, 60, 150},
                              {HeadKind::kAShape, 64, 100},
                              {.kind = HeadKind::kBlockSparse},
                              {HeadKind::kVerticalSlash, 90, 110}}};
  testing::DeviceArray<float> shares_{std::vector<float>{0.5f, 0.9f, 0.3f, 0.7f}};
};

}  // namespace kvasir::kernels

#include "prefill/minference/minference.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/vertical_slash/vertical_slash.h"
#include "prefill/a_shape.h"
#include "prefill/estimate_pairs.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadPattern;
using formats::HeadPatternKind;
using kernels::SegmentKind;

// The heads of one KV head, and what estimating them found.
class Group {
 public:
  Group(const kernels::CpuContext& context, const Options& options,
        const formats::HeadConfig& config, const LayerQueries& queries, Workspace& workspace,
        int kv_head)
      : context_(context),
        options_(options),
        config_(config),
        queries_(queries),
        workspace_(workspace),
        kv_head_(kv_head),
        size_(queries.q_heads / queries.pages.kv_heads) {
    for (int head = kv_head * size_; head < (kv_head + 1) * size_; ++head)
      if (pattern(head).kind == HeadPatternKind::kVerticalSlash) estimated_.push_back(head);
  }

  void plan(Report& report, PlanBuffer& output) {
    if (!estimated_.empty()) select(report);
    size_t next = 0;
    for (int head = kv_head_ * size_; head < (kv_head_ + 1) * size_; ++head) {
      const size_t first = output.segments.size();
      switch (pattern(head).kind) {
        case HeadPatternKind::kVerticalSlash:
          append_index(selections_[next++], report, output);
          break;
        case HeadPatternKind::kAShape:
          // No window at all would leave rows without keys.
          append_a_shape(pattern(head).first, std::max(1, pattern(head).second), output.segments);
          break;
        case HeadPatternKind::kBlockSparse:
          append_blocks(head, report, output);
          break;
      }
      output.end_head(first);
    }
  }

 private:
  HeadPattern pattern(int head) const { return config_.at(queries_.layer, head); }

  // Estimates the vertical-slash heads and makes their selections.
  void select(Report& report) {
    const int64_t length = queries_.chunk.length(), heads = std::ssize(estimated_);
    workspace_.clear();
    const auto column_sums = workspace_.array<float>(heads * length);
    const auto offset_sums = workspace_.array<float>(heads * length);
    kernels::run_vertical_slash(
        context_,
        {.q = queries_.q,
         .q_row_stride = queries_.q_row_stride,
         .rows = queries_.chunk.rows,
         .query_offset = queries_.chunk.query_offset,
         .pages = queries_.pages,
         .page_table = queries_.page_table,
         .kv_head = kv_head_,
         .heads = estimated_,
         .scale = queries_.scale,
         .column_sums = column_sums.data(),
         .offset_sums = offset_sums.data(),
         .sums_row_stride = length,
         .workspace = workspace_.bytes(kernels::vertical_slash_workspace_bytes(
             static_cast<int>(heads), queries_.pages.head_dim, length, context_.pool.size()))});
    selections_.resize(static_cast<size_t>(heads));
    context_.pool.parallel(heads, [&](int64_t i, int) {
      const HeadPattern wanted = pattern(estimated_[static_cast<size_t>(i)]);
      const auto row = static_cast<size_t>(i * length), size = static_cast<size_t>(length);
      const auto columns = column_sums.subspan(row, size), offsets = offset_sums.subspan(row, size);
      const Budgets budgets =
          options_.mass > 0 ? adaptive_budgets(columns, offsets, options_.mass)
                            : clamp_budgets(wanted.first, wanted.second, options_.ratio, length);
      select_vertical_slash(columns, offsets, budgets, selections_[static_cast<size_t>(i)]);
    });
    report.scored_pairs += static_cast<uint64_t>(heads) * last_query_pairs(queries_.chunk);
  }

  void append_index(const Selection& selection, Report& report, PlanBuffer& output) {
    const size_t segments = output.segments.size(), columns = output.columns.size();
    const ProgramSize size = options_.index == IndexMode::kRelative
                                 ? append_relative_index(selection, queries_.chunk, output)
                                 : append_reference_index(selection, queries_.chunk, output);
    if (size.density() <= options_.densest) {
      report.densest_head = std::max(report.densest_head, size.density());
      return;
    }
    output.segments.resize(segments);
    output.columns.resize(columns);
    output.segments.push_back({.count = kernels::kNoBound});
    ++report.dense_heads;
  }

  void append_blocks(int head, Report& report, PlanBuffer& output) {
    if (block_means_.empty()) block_means_ = block_means(queries_, kv_head_);
    append_block_sparse(queries_, head, block_means_, options_.blocks, output);
    report.scored_pairs += mean_pairs(queries_.chunk, kBlockKeys);
  }

  const kernels::CpuContext& context_;
  const Options& options_;
  const formats::HeadConfig& config_;
  const LayerQueries& queries_;
  Workspace& workspace_;
  const int kv_head_;
  const int size_;
  std::vector<int32_t> estimated_;
  std::vector<Selection> selections_;
  std::vector<float> block_means_;
};

}  // namespace

Report plan_layer(const kernels::CpuContext& context, const Options& options,
                  const formats::HeadConfig& config, const LayerQueries& queries,
                  Workspace& workspace, PlanBuffer& output) {
  KVASIR_CHECK(queries.pages.kv_heads > 0 && queries.q_heads % queries.pages.kv_heads == 0,
               "query heads are whole groups");
  Report report;
  for (int kv_head = 0; kv_head < queries.pages.kv_heads; ++kv_head)
    Group(context, options, config, queries, workspace, kv_head).plan(report, output);
  return report;
}

}  // namespace kvasir::prefill::minference

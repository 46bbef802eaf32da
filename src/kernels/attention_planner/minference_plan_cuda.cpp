#include "kernels/attention_planner/minference_plan_cuda.h"

#include <algorithm>

#include "kernels/attention_planner/block_sparse_cuda.h"
#include "kernels/vertical_slash/vertical_slash_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr size_t kSumBytes = size_t{128} << 20;

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

// The workspace: sums, then what estimate and index need beside them; for block-sparse heads, which
// come last, the same memory again.
struct Layout {
  explicit Layout(const MinferenceBounds& bounds)
      : group(bounds.q_heads / bounds.kv_heads),
        all(bounds.span_count * bounds.kv_heads),
        stride((bounds.max_length + 63) / 64 * 64),
        unit(static_cast<size_t>(group) * static_cast<size_t>(stride) * sizeof(float)) {
    if (bounds.has_vertical_slash) {
      units = std::clamp(static_cast<int>(kSumBytes / std::max<size_t>(1, 2 * unit)), 1,
                         std::max(1, all));
      offset_sums = static_cast<size_t>(units) * unit;
      estimate = 2 * offset_sums;
      index = estimate + aligned(vertical_slash_workspace_bytes(group, units, bounds.max_length));
    } else {
      units = std::max(1, all);  // nothing is summed
    }
  }
  int group, all;
  int64_t stride;
  size_t unit;    // bytes of its column sums, and of its offset sums
  int units = 0;  // at once
  size_t offset_sums = 0, estimate = 0, index = 0;
};

}  // namespace

CudaPlanArrays minference_plan_sizes(const MinferenceBounds& bounds) {
  CudaPlanArrays sizes;
  sizes.row_tile = bounds.row_tile;
  sizes.head_segments = vertical_slash_segments(bounds.budgets, bounds.max_length, bounds.row_tile);
  sizes.head_columns = bounds.budgets.most_columns;
  if (bounds.has_block_sparse)
    sizes.head_words = static_cast<int32_t>(
        block_sparse_words(bounds.max_rows, bounds.max_length, bounds.row_tile));
  return sizes;
}

size_t minference_plan_workspace_bytes(const MinferenceBounds& bounds) {
  // Of shorter spans more units are taken at once.
  const Layout layout(bounds);
  size_t bytes = vertical_slash_index_workspace_bytes(bounds.budgets, layout.group, layout.all);
  if (bounds.has_vertical_slash)
    bytes += std::min(static_cast<size_t>(layout.all) * 2 * layout.unit,
                      std::max(kSumBytes, 2 * layout.unit)) +
             aligned(vertical_slash_workspace_bytes(layout.group, layout.all, bounds.max_length));
  if (bounds.has_block_sparse)
    bytes = std::max(bytes, block_sparse_workspace_bytes(
                                bounds.q_heads, bounds.kv_heads, bounds.head_dim, bounds.span_count,
                                bounds.max_rows, bounds.max_length, bounds.row_tile));
  return bytes;
}

void run_minference_plan(const cuda::Context& context, const MinferencePlanArgs& args) {
  const MinferenceBounds& bounds = args.bounds;
  const Layout layout(bounds);
  auto* const column_sums = reinterpret_cast<float*>(args.workspace);
  auto* const offset_sums = reinterpret_cast<float*>(args.workspace + layout.offset_sums);
  for (int unit = 0; unit < layout.all; unit += layout.units) {
    const int units = std::min(layout.units, layout.all - unit);
    if (bounds.has_vertical_slash)
      run_vertical_slash(context, {.q = args.q,
                                   .q_row_stride = args.q_row_stride,
                                   .pages = args.pages,
                                   .q_heads = bounds.q_heads,
                                   .scale = args.scale,
                                   .heads = args.heads,
                                   .spans = args.spans,
                                   .page_tables = args.page_tables,
                                   .first_unit = unit,
                                   .units = units,
                                   .max_length = bounds.max_length,
                                   .column_sums = column_sums,
                                   .offset_sums = offset_sums,
                                   .sums_row_stride = layout.stride,
                                   .workspace = args.workspace + layout.estimate});
    run_vertical_slash_index(context, {.column_sums = column_sums,
                                       .offset_sums = offset_sums,
                                       .sums_row_stride = layout.stride,
                                       .heads = args.heads,
                                       .budgets = bounds.budgets,
                                       .densest = args.densest,
                                       .q_heads = bounds.q_heads,
                                       .kv_heads = bounds.kv_heads,
                                       .spans = args.spans,
                                       .first_unit = unit,
                                       .units = units,
                                       .max_length = bounds.max_length,
                                       .plan = args.plan,
                                       .workspace = args.workspace + layout.index});
  }
  if (bounds.has_block_sparse)
    run_block_sparse(context, {.q = args.q,
                               .q_row_stride = args.q_row_stride,
                               .pages = args.pages,
                               .q_heads = bounds.q_heads,
                               .heads = args.heads,
                               .spans = args.spans,
                               .page_tables = args.page_tables,
                               .span_count = bounds.span_count,
                               .max_rows = bounds.max_rows,
                               .max_length = bounds.max_length,
                               .blocks = args.blocks,
                               .plan = args.plan,
                               .workspace = args.workspace});
}

}  // namespace kvasir::kernels

#include "kernels/attention_planner/flexprefill_plan_cuda.h"

#include <algorithm>

#include "kernels/attention_planner/block_programs_cuda.h"
#include "kernels/attention_planner/block_sparse_cuda.h"
#include "kernels/attention_planner/flexprefill_work_cuda.h"
#include "kernels/vertical_slash/vertical_slash_cuda.h"

namespace kvasir::kernels {
namespace {

using flexprefill::kBlock;

constexpr size_t kSharedBytes = size_t{128} << 20;  // of sums, and of maps

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }
size_t count(int64_t value) { return static_cast<size_t>(std::max<int64_t>(value, 0)); }

// The workspace: what every step reads, then sums with what the estimate needs, or maps.
struct Layout {
  explicit Layout(const FlexPrefillBounds& bounds)
      : blocks((bounds.max_length + kBlock - 1) / kBlock),
        tiles((bounds.max_rows + kBlock - 1) / kBlock),
        row_stride((bounds.max_length + 63) / 64 * 64),
        group(bounds.q_heads / bounds.kv_heads),
        sum_bytes(count(group * row_stride) * sizeof(float)),
        map_bytes(std::max<size_t>(1, count(tiles * blocks) * sizeof(float))) {
    const auto take = [this](size_t size) {
      const size_t place = shared;
      shared += aligned(size);
      return place;
    };
    const int64_t heads = bounds.q_heads;
    spans = take(count(bounds.span_count) * sizeof(CudaAttentionSpan));
    key_means = take(count(bounds.kv_heads * bounds.head_dim * blocks) * sizeof(float));
    query_means = take(count(heads * (tiles + 1) * bounds.head_dim) * sizeof(float));
    line_masses = take(count(heads * 2 * blocks) * sizeof(float));
    lines = take(count(heads * 2 * ((blocks + 31) / 32)) * sizeof(uint32_t));
    query_aware = take(count(heads) * sizeof(int32_t));
    thresholds = take(count(heads) * sizeof(radix::Threshold));
    equals = take(count(heads * tiles) * sizeof(uint32_t));
    units = static_cast<int>(std::clamp<size_t>(kSharedBytes / std::max<size_t>(1, 4 * sum_bytes),
                                                1, count(bounds.kv_heads)));
    maps = static_cast<int>(std::clamp<size_t>(kSharedBytes / map_bytes, 1, count(heads)));
    // Of shorter spans more is taken at once.
    const size_t sums =
        std::min(count(bounds.kv_heads) * 4 * sum_bytes, std::max(kSharedBytes, 4 * sum_bytes)) +
        vertical_slash_workspace_bytes(group, bounds.kv_heads, bounds.max_length);
    bytes = shared + std::max(sums + 256, std::min(count(heads) * map_bytes,
                                                   std::max(kSharedBytes, map_bytes)));
  }
  int64_t blocks, tiles, row_stride;
  int group;
  size_t sum_bytes;         // of a KV head's sums of one kind
  size_t map_bytes;         // of a head
  int units = 0, maps = 0;  // KV heads, and heads, at once
  size_t spans = 0, key_means = 0, query_means = 0, line_masses = 0, lines = 0, query_aware = 0;
  size_t thresholds = 0, equals = 0, shared = 0, bytes = 0;
};

template <class T>
T* at(const FlexPrefillPlanArgs& args, size_t place) {
  return reinterpret_cast<T*>(args.workspace + place);
}

void run_units(const cuda::Context& context, const flexprefill::Work& work, const Layout& layout,
               const CudaAttentionSpan* shorter) {
  const FlexPrefillPlanArgs& args = work.args;
  const FlexPrefillBounds& bounds = args.bounds;
  for (int first = 0; first < bounds.kv_heads; first += layout.units) {
    const int units = std::min(layout.units, bounds.kv_heads - first);
    const size_t size = static_cast<size_t>(units) * layout.sum_bytes;
    const auto sums_at = [&](size_t i) { return at<float>(args, layout.shared + i * size); };
    std::byte* const workspace = args.workspace + layout.shared + aligned(4 * size);
    for (const bool is_before : {true, false})
      run_vertical_slash(context, {.q = args.q,
                                   .q_row_stride = args.q_row_stride,
                                   .pages = args.pages,
                                   .q_heads = bounds.q_heads,
                                   .scale = args.scale,
                                   .spans = is_before ? shorter : args.spans,
                                   .page_tables = args.page_tables,
                                   .first_unit = work.span * bounds.kv_heads + first,
                                   .units = units,
                                   .max_length = bounds.max_length,
                                   .column_sums = sums_at(is_before ? 2 : 0),
                                   .offset_sums = sums_at(is_before ? 3 : 1),
                                   .sums_row_stride = layout.row_stride,
                                   .workspace = workspace});
    flexprefill::run_lines(context, work,
                           {.first_head = first * layout.group,
                            .heads = units * layout.group,
                            .columns = sums_at(0),
                            .distances = sums_at(1),
                            .columns_before = sums_at(2),
                            .distances_before = sums_at(3),
                            .row_stride = layout.row_stride});
  }
}

}  // namespace

CudaPlanArrays flexprefill_plan_sizes(const FlexPrefillBounds& bounds) {
  CudaPlanArrays sizes;
  sizes.row_tile = kBlock;
  sizes.head_segments = 1;
  sizes.head_words =
      static_cast<int32_t>(block_sparse_words(bounds.max_rows, bounds.max_length, kBlock));
  return sizes;
}

size_t flexprefill_plan_workspace_bytes(const FlexPrefillBounds& bounds) {
  return Layout(bounds).bytes;
}

void run_flexprefill_plan(const cuda::Context& context, const FlexPrefillPlanArgs& args) {
  const FlexPrefillBounds& bounds = args.bounds;
  if (bounds.max_rows == 0) return;
  const Layout layout(bounds);
  auto* const shorter = at<CudaAttentionSpan>(args, layout.spans);
  flexprefill::shorten_spans(context, args.spans, bounds.span_count, shorter);
  for (int span = 0; span < bounds.span_count; ++span) {
    const flexprefill::Work work{.args = args,
                                 .span = span,
                                 .most_blocks = static_cast<int>(layout.blocks),
                                 .most_tiles = static_cast<int>(layout.tiles),
                                 .key_means = at<float>(args, layout.key_means),
                                 .query_means = at<float>(args, layout.query_means),
                                 .line_masses = at<float>(args, layout.line_masses),
                                 .lines = at<uint32_t>(args, layout.lines),
                                 .query_aware = at<int32_t>(args, layout.query_aware),
                                 .thresholds = at<radix::Threshold>(args, layout.thresholds),
                                 .equals = at<uint32_t>(args, layout.equals)};
    const BlockProgramsArgs programs{
        .q_heads = bounds.q_heads, .spans = args.spans, .span = span, .plan = args.plan};
    begin_block_programs(context, programs);
    flexprefill::run_means(context, work);
    run_units(context, work, layout, shorter);
    for (int head = 0; head < bounds.q_heads; head += layout.maps)
      flexprefill::run_maps(context, work, head, std::min(layout.maps, bounds.q_heads - head),
                            at<float>(args, layout.shared));
    end_block_programs(context, programs, args.densest);
  }
}

}  // namespace kvasir::kernels

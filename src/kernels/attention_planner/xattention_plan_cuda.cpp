#include "kernels/attention_planner/xattention_plan_cuda.h"

#include <algorithm>

#include "kernels/antidiagonal/antidiagonal_cuda.h"
#include "kernels/attention_planner/block_programs_cuda.h"
#include "kernels/attention_planner/block_sparse_cuda.h"
#include "kernels/attention_planner/mass_blocks_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kRowTile = 128;
constexpr size_t kEstimateBytes = size_t{128} << 20;

// The workspace: masses of some row tiles, then what finding them needs.
struct Layout {
  explicit Layout(const XAttentionBounds& bounds)
      : all_tiles(static_cast<int>((bounds.max_rows + kRowTile - 1) / kRowTile)),
        blocks((bounds.max_length + kRowTile - 1) / kRowTile) {
    const auto bytes_of = [&](int count) {
      return antidiagonal_workspace_bytes(bounds.q_heads, bounds.kv_heads, bounds.stride, count,
                                          bounds.max_length);
    };
    // Whole blocks of query groups are rounded up to, so bytes do not grow evenly.
    const size_t of_tile = std::max<size_t>(1, bytes_of(64) / 64);
    tiles = std::clamp(static_cast<int>(kEstimateBytes / of_tile), 1, std::max(1, all_tiles));
    const size_t masses = static_cast<size_t>(bounds.q_heads) * static_cast<size_t>(blocks) *
                          sizeof(float);  // of a tile
    estimate = (static_cast<size_t>(tiles) * masses + 255) / 256 * 256;
    // Of shorter spans more tiles are taken at once.
    const size_t both = of_tile + masses;
    most_bytes = std::min(static_cast<size_t>(std::max(1, all_tiles)) * both,
                          std::max(kEstimateBytes / of_tile * both + both, both)) +
                 256 + bytes_of(1);
  }
  int all_tiles, tiles;  // of a span, and at once
  int64_t blocks;
  size_t estimate, most_bytes;
};

}  // namespace

CudaPlanArrays xattention_plan_sizes(const XAttentionBounds& bounds) {
  CudaPlanArrays sizes;
  sizes.row_tile = kRowTile;
  sizes.head_segments = 1;
  sizes.head_words =
      static_cast<int32_t>(block_sparse_words(bounds.max_rows, bounds.max_length, kRowTile));
  return sizes;
}

size_t xattention_plan_workspace_bytes(const XAttentionBounds& bounds) {
  return Layout(bounds).most_bytes;
}

void run_xattention_plan(const cuda::Context& context, const XAttentionPlanArgs& args) {
  const XAttentionBounds& bounds = args.bounds;
  const Layout layout(bounds);
  auto* const masses = reinterpret_cast<float*>(args.workspace);
  for (int span = 0; span < bounds.span_count; ++span) {
    MassBlocksArgs selection{.masses = masses,
                             .mass_row_stride = layout.blocks,
                             .shares = args.shares,
                             .q_heads = bounds.q_heads,
                             .spans = args.spans,
                             .span = span,
                             .plan = args.plan};
    const BlockProgramsArgs programs{
        .q_heads = bounds.q_heads, .spans = args.spans, .span = span, .plan = args.plan};
    begin_block_programs(context, programs);
    for (int tile = 0; tile < layout.all_tiles; tile += layout.tiles) {
      selection.first_tile = tile;
      selection.tiles = std::min(layout.tiles, layout.all_tiles - tile);
      run_antidiagonal(context, {.q = args.q,
                                 .q_row_stride = args.q_row_stride,
                                 .pages = args.pages,
                                 .q_heads = bounds.q_heads,
                                 .scale = args.scale,
                                 .stride = bounds.stride,
                                 .span = args.spans + span,
                                 .page_tables = args.page_tables,
                                 .first_tile = selection.first_tile,
                                 .tiles = selection.tiles,
                                 .max_length = bounds.max_length,
                                 .masses = masses,
                                 .mass_row_stride = layout.blocks,
                                 .workspace = args.workspace + layout.estimate});
      run_mass_blocks(context, selection);
    }
    end_block_programs(context, programs, args.densest);
  }
}

}  // namespace kvasir::kernels

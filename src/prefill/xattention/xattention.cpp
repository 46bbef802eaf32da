#include "prefill/xattention/xattention.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "kernels/antidiagonal/antidiagonal.h"
#include "prefill/block_bitmap.h"
#include "prefill/estimate_pairs.h"
#include "prefill/select.h"

namespace kvasir::prefill::xattention {
namespace {

constexpr int64_t kBlock = kernels::kMassBlock;
// Row tiles of all heads that share each reading of the keys.
constexpr int64_t kTilesAtOnce = 32, kFewestTiles = 4;

// The query heads of one KV head.
class Group {
 public:
  Group(const kernels::CpuContext& context, const Options& options, const LayerQueries& queries,
        Workspace& workspace, int kv_head)
      : context_(context),
        options_(options),
        queries_(queries),
        chunk_(queries.chunk),
        workspace_(workspace),
        kv_head_(kv_head),
        heads_(static_cast<size_t>(queries.q_heads / queries.pages.kv_heads)),
        scratch_(static_cast<size_t>(context.pool.size())) {
    std::iota(heads_.begin(), heads_.end(), kv_head * static_cast<int32_t>(heads_.size()));
  }

  void plan(Report& report, PlanBuffer& output) {
    for (size_t i = 0; i < heads_.size(); ++i) bitmaps_.emplace_back(chunk_, output);
    const int64_t at_once = std::max(kFewestTiles, kTilesAtOnce / std::ssize(heads_));
    for (int64_t tile = 0; tile < chunk_.tiles(); tile += at_once)
      plan_tiles(tile, std::min(tile + at_once, chunk_.tiles()));
    for (const BlockBitmap& bitmap : bitmaps_)
      end_bitmap_head(bitmap, options_.densest, report, output);
    report.scored_pairs +=
        static_cast<uint64_t>(std::ssize(heads_)) * antidiagonal_pairs(chunk_, options_.stride);
  }

 private:
  void plan_tiles(int64_t first, int64_t last) {
    const int64_t end = chunk_.tile_end(last - 1), rows = end - chunk_.tile_position(first);
    const int64_t blocks = (end + kBlock - 1) / kBlock, tiles = last - first;
    workspace_.clear();
    const auto masses = workspace_.array<float>(std::ssize(heads_) * tiles * blocks);
    const auto row_bytes =
        queries_.q_row_stride * static_cast<int64_t>(dtype_bytes(queries_.pages.dtype));
    kernels::run_antidiagonal(
        context_, {.q = static_cast<const std::byte*>(queries_.q) + first * kBlock * row_bytes,
                   .q_row_stride = queries_.q_row_stride,
                   .rows = rows,
                   .query_offset = chunk_.tile_position(first),
                   .pages = queries_.pages,
                   .page_table = queries_.page_table,
                   .kv_head = kv_head_,
                   .heads = heads_,
                   .scale = queries_.scale,
                   .stride = options_.stride,
                   .masses = masses.data(),
                   .mass_row_stride = blocks,
                   .workspace = workspace_.bytes(kernels::antidiagonal_workspace_bytes(
                       static_cast<int>(heads_.size()), queries_.pages.head_dim, options_.stride,
                       rows, end, context_.pool.size()))});
    context_.pool.parallel(std::ssize(heads_) * tiles, [&](int64_t task, int worker) {
      select(static_cast<size_t>(task / tiles), first + task % tiles,
             masses.subspan(static_cast<size_t>(task * blocks), static_cast<size_t>(blocks)),
             scratch_[static_cast<size_t>(worker)]);
    });
  }

  void select(size_t head, int64_t tile, std::span<float> masses, std::vector<float>& scratch) {
    BlockBitmap& bitmap = bitmaps_[head];
    const int64_t visible = (chunk_.tile_end(tile) - 1) / kBlock + 1;
    masses = masses.first(static_cast<size_t>(visible));
    const double threshold = threshold_of(head);
    if (threshold >= 1) return bitmap.add(tile, 0, visible * kBlock);
    double wanted = threshold * sum_of(masses);
    const auto take = [&](int64_t block) {
      wanted -= masses[static_cast<size_t>(block)];
      masses[static_cast<size_t>(block)] = 0;
      bitmap.add(tile, block * kBlock, (block + 1) * kBlock);
    };
    take(0);
    for (int64_t own = chunk_.tile_position(tile) / kBlock; own < visible; ++own) take(own);
    cut_reaching(masses, wanted, scratch).for_each(masses, [&](int64_t block) {
      bitmap.add(tile, block * kBlock, (block + 1) * kBlock);
    });
  }

  double threshold_of(size_t head) const {
    if (options_.head_thresholds.empty()) return options_.threshold;
    const auto index = int64_t{queries_.layer} * queries_.q_heads + heads_[head];
    return double{options_.head_thresholds[static_cast<size_t>(index)]};
  }

  const kernels::CpuContext& context_;
  const Options& options_;
  const LayerQueries& queries_;
  const Chunk& chunk_;
  Workspace& workspace_;
  const int kv_head_;
  std::vector<int32_t> heads_;
  std::vector<std::vector<float>> scratch_;  // of each worker
  std::vector<BlockBitmap> bitmaps_;
};

}  // namespace

Report plan_layer(const kernels::CpuContext& context, const Options& options,
                  const LayerQueries& queries, Workspace& workspace, PlanBuffer& output) {
  KVASIR_CHECK(queries.pages.kv_heads > 0 && queries.q_heads % queries.pages.kv_heads == 0,
               "query heads are whole groups");
  KVASIR_CHECK(queries.chunk.row_tile == kBlock, "masses are those of 128 queries");
  KVASIR_CHECK(options.stride == 8 || options.stride == 16, "there are two strides");
  KVASIR_CHECK(
      options.head_thresholds.empty() ||
          std::ssize(options.head_thresholds) >= (int64_t{queries.layer} + 1) * queries.q_heads,
      "every head of the layer has a threshold");
  output.row_tile = queries.chunk.row_tile;
  Report report;
  for (int kv_head = 0; kv_head < queries.pages.kv_heads; ++kv_head)
    Group(context, options, queries, workspace, kv_head).plan(report, output);
  return report;
}

}  // namespace kvasir::prefill::xattention

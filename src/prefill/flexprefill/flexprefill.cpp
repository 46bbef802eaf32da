#include "prefill/flexprefill/flexprefill.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "kernels/vertical_slash/vertical_slash.h"
#include "prefill/block_bitmap.h"
#include "prefill/estimate_pairs.h"
#include "prefill/means.h"
#include "prefill/select.h"

namespace kvasir::prefill::flexprefill {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Sums of every 128 entries; `scale` times.
std::vector<float> block_sums(std::span<const float> values, float scale) {
  std::vector<float> sums(static_cast<size_t>(blocks_of(std::ssize(values))));
  for (size_t i = 0; i < values.size(); ++i) sums[i / kBlock] += values[i] * scale;
  return sums;
}

void softmax(std::span<float> scores) {
  const float top = *std::ranges::max_element(scores);
  double sum = 0;
  for (float& score : scores) sum += score = std::exp(score - top);
  for (float& score : scores) score = static_cast<float>(score / sum);
}

// What is chosen for a head.
struct Choice {
  bool is_query_aware = false;
  std::vector<int32_t> columns;    // blocks
  std::vector<int32_t> distances;  // in blocks, 0: the nearest
  std::vector<float> scratch;
};

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
        blocks_(blocks_of(queries.chunk.length())),
        head_dim_(static_cast<size_t>(queries.pages.head_dim)),
        heads_(static_cast<size_t>(queries.q_heads / queries.pages.kv_heads)),
        choices_(heads_.size()) {
    std::iota(heads_.begin(), heads_.end(), kv_head * static_cast<int32_t>(heads_.size()));
  }

  void plan(FlexReport& report, PlanBuffer& output) {
    workspace_.clear();
    key_means_ = workspace_.array<float>(blocks_ * static_cast<int64_t>(head_dim_));
    context_.pool.parallel(blocks_, [this](int64_t block, int) {
      mean_key(queries_, kv_head_, block * kBlock, std::min(chunk_.length(), (block + 1) * kBlock),
               key_mean(block));
    });
    estimate(report);
    context_.pool.parallel(std::ssize(heads_), [this](int64_t i, int) { choose(i); });
    for (size_t i = 0; i < heads_.size(); ++i) {
      BlockBitmap bitmap(chunk_, output);
      add_lines(choices_[i], bitmap);
      if (choices_[i].is_query_aware) {
        ++report.query_aware_heads;
        add_map(heads_[i], choices_[i].scratch, bitmap, report);
      }
      end_bitmap_head(bitmap, options_.densest, report, output);
    }
  }

 private:
  std::span<float> key_mean(int64_t block) const {
    return key_means_.subspan(static_cast<size_t>(block) * head_dim_, head_dim_);
  }
  int64_t last_queries() const { return std::min(chunk_.rows, kBlock); }

  // Attention of the last queries by key and by distance: the kernel takes 64 at once, so that the
  // last ones but 64 are those of a chunk that ends earlier.
  void estimate(Report& report) {
    const int64_t length = chunk_.length(), heads = std::ssize(heads_);
    columns_ = workspace_.array<float>(heads * length);
    distances_ = workspace_.array<float>(heads * length);
    run_estimate(chunk_.rows, columns_, distances_);
    report.scored_pairs += static_cast<uint64_t>(heads) *
                           (last_query_pairs(chunk_, kBlock) + static_cast<uint64_t>(blocks_));
    if (chunk_.rows <= kernels::kEstimateQueries) return;
    const auto columns = workspace_.array<float>(heads * length);
    const auto distances = workspace_.array<float>(heads * length);
    run_estimate(chunk_.rows - kernels::kEstimateQueries, columns, distances);
    const int64_t shorter = length - kernels::kEstimateQueries;
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t i = 0; i < shorter; ++i) {
        const auto at = static_cast<size_t>(head * length + i);
        columns_[at] += columns[at];
        distances_[at] += distances[at];
      }
  }

  void run_estimate(int64_t rows, std::span<float> columns, std::span<float> distances) {
    const int64_t length = chunk_.query_offset + rows;
    kernels::run_vertical_slash(
        context_, {.q = queries_.q,
                   .q_row_stride = queries_.q_row_stride,
                   .rows = rows,
                   .query_offset = chunk_.query_offset,
                   .pages = queries_.pages,
                   .page_table = queries_.page_table,
                   .kv_head = kv_head_,
                   .heads = heads_,
                   .scale = queries_.scale,
                   .column_sums = columns.data(),
                   .offset_sums = distances.data(),
                   .sums_row_stride = chunk_.length(),
                   .workspace = workspace_.bytes(kernels::vertical_slash_workspace_bytes(
                       static_cast<int>(heads_.size()), queries_.pages.head_dim, length,
                       context_.pool.size()))});
  }

  // The blocks that reach gamma are at least so many as the keys do.
  int64_t budget(std::span<const float> masses, std::vector<float>& scratch) const {
    if (options_.gamma >= 1) return blocks_;
    const int64_t keys = cut_reaching(masses, options_.gamma * sum_of(masses), scratch).count;
    return std::clamp(keys / kBlock + 1, std::min(options_.min_blocks, blocks_), blocks_);
  }

  void choose(int64_t i) {
    Choice& choice = choices_[static_cast<size_t>(i)];
    const auto row = static_cast<size_t>(i * chunk_.length());
    const auto columns = columns_.subspan(row, static_cast<size_t>(chunk_.length()));
    const auto distances = distances_.subspan(row, columns.size());
    const float share = 1 / static_cast<float>(last_queries());
    std::vector<float> column_blocks = block_sums(columns, share);
    choice.is_query_aware =
        jensen_shannon_distance(estimated_masses(heads_[static_cast<size_t>(i)]), column_blocks) <
        options_.tau;
    const int64_t fewest = std::min(options_.min_blocks, blocks_);
    const int64_t column_budget = choice.is_query_aware ? fewest : budget(columns, choice.scratch);
    const int64_t distance_budget =
        choice.is_query_aware ? fewest : budget(distances, choice.scratch);
    column_blocks.front() = kInfinity;
    select_highest(column_blocks, column_budget, choice.scratch, choice.columns);
    // Groups count from the farthest distance on, the last one holds the nearest.
    std::ranges::reverse(distances);
    std::vector<float> distance_blocks = block_sums(distances, share);
    distance_blocks.back() = kInfinity;
    select_highest(distance_blocks, distance_budget, choice.scratch, choice.distances);
    for (int32_t& distance : choice.distances)
      distance = static_cast<int32_t>(blocks_ - 1) - distance;
  }

  // Of the mean of the last queries against mean keys.
  std::vector<float> estimated_masses(int head) const {
    std::vector<float> mean(head_dim_), masses(static_cast<size_t>(blocks_));
    mean_query(queries_, head, chunk_.rows - last_queries(), chunk_.rows, mean);
    score_means(mean, masses);
    softmax(masses);
    return masses;
  }

  void score_means(std::span<const float> mean, std::span<float> scores) const {
    for (size_t block = 0; block < scores.size(); ++block)
      scores[block] = queries_.scale * product(mean, key_mean(static_cast<int64_t>(block)));
  }

  void add_lines(const Choice& choice, BlockBitmap& bitmap) const {
    for (int64_t tile = 0; tile < chunk_.tiles(); ++tile) {
      for (const int64_t block : choice.columns)
        bitmap.add(tile, block * kBlock, (block + 1) * kBlock);
      const int64_t position = chunk_.tile_position(tile);
      for (const int64_t distance : choice.distances)
        bitmap.add(tile, position - distance * kBlock, position - (distance - 1) * kBlock);
    }
  }

  // The whole map of mean queries against mean keys; what a tile does not see is 0.
  void add_map(int head, std::vector<float>& scratch, BlockBitmap& bitmap, Report& report) {
    const auto map = workspace_.array<float>(chunk_.tiles() * blocks_);
    std::ranges::fill(map, 0.0f);
    context_.pool.parallel(chunk_.tiles(), [&](int64_t tile, int) {
      std::vector<float> mean(head_dim_);
      mean_query(queries_, head, tile * kBlock, chunk_.tile_end(tile) - chunk_.query_offset, mean);
      const auto row = map.subspan(static_cast<size_t>(tile * blocks_),
                                   static_cast<size_t>(blocks_of(chunk_.tile_end(tile))));
      score_means(mean, row);
      softmax(row);
    });
    report.scored_pairs += mean_pairs(chunk_, kBlock);
    const double mass = options_.gamma >= 1 ? std::numeric_limits<double>::infinity()
                                            : options_.gamma * sum_of(map);
    cut_reaching(map, mass, scratch).for_each(map, [&](int64_t i) {
      bitmap.add(i / blocks_, i % blocks_ * kBlock, (i % blocks_ + 1) * kBlock);
    });
  }

  const kernels::CpuContext& context_;
  const Options& options_;
  const LayerQueries& queries_;
  const Chunk& chunk_;
  Workspace& workspace_;
  const int kv_head_;
  const int64_t blocks_;
  const size_t head_dim_;
  std::vector<int32_t> heads_;
  std::vector<Choice> choices_;
  std::span<float> key_means_;            // [blocks, head_dim]
  std::span<float> columns_, distances_;  // [heads, length]
};

}  // namespace

double jensen_shannon_distance(std::span<const float> p, std::span<const float> q) {
  // x * log(x / m), to 0 as x goes to 0.
  const auto term = [](double x, double m) { return x > 0 ? x * std::log(x / m) : 0.0; };
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double middle = (double{p[i]} + q[i]) / 2;
    sum += term(p[i], middle) + term(q[i], middle);
  }
  return std::sqrt(std::max(0.0, sum / 2));
}

FlexReport plan_layer(const kernels::CpuContext& context, const Options& options,
                      const LayerQueries& queries, Workspace& workspace, PlanBuffer& output) {
  KVASIR_CHECK(queries.pages.kv_heads > 0 && queries.q_heads % queries.pages.kv_heads == 0,
               "query heads are whole groups");
  KVASIR_CHECK(queries.chunk.row_tile == kBlock, "blocks are of 128 queries");
  output.row_tile = queries.chunk.row_tile;
  FlexReport report;
  if (blocks_of(queries.chunk.length()) <= dense_blocks(options.min_blocks)) {
    for (int head = 0; head < queries.q_heads; ++head) {
      output.segments.push_back({.count = kernels::kNoBound});
      output.end_head(output.segments.size() - 1);
    }
    report.dense_heads = queries.q_heads;
    return report;
  }
  for (int kv_head = 0; kv_head < queries.pages.kv_heads; ++kv_head)
    Group(context, options, queries, workspace, kv_head).plan(report, output);
  return report;
}

}  // namespace kvasir::prefill::flexprefill

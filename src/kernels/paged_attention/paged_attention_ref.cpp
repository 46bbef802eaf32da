#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/paged_attention/paged_attention.h"

namespace kvasir::kernels {
namespace {

double load(DType dtype, const void* data, int64_t index) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[index]
                              : bf16_to_f32(static_cast<const bf16_t*>(data)[index]);
}

void store(DType dtype, void* data, int64_t index, double value) {
  const float narrow = static_cast<float>(value);
  if (dtype == DType::kF32)
    static_cast<float*>(data)[index] = narrow;
  else
    static_cast<bf16_t*>(data)[index] = f32_to_bf16(narrow);
}

// Whether a relative run of the program holds the key at `relative` to the row tile.
bool is_in_run(const AttentionPlan& plan, const HeadProgram& program, int64_t relative) {
  return std::ranges::any_of(plan.segments.subspan(program.first, program.count),
                             [&](const PlanSegment& run) {
                               return run.kind == SegmentKind::kRelative && relative >= run.first &&
                                      relative < int64_t{run.first} + run.count;
                             });
}

// The keys that a query of a head meets, in the order in which they are added.
std::vector<int64_t> visible_keys(const AttentionArgs& args, const AttentionSpan& span,
                                  int64_t query, int head) {
  const int64_t position = span.query_offset + query;
  std::vector<int64_t> keys;
  const auto add = [&](int64_t key, int64_t offset_begin, int64_t offset_end) {
    if (key < 0 || key > position) return;
    const int64_t offset = position - key;
    if (args.window > 0 && offset >= args.window) return;
    if (offset >= offset_begin && offset < offset_end) keys.push_back(key);
  };
  if (!span.plan) {
    for (int64_t key = 0; key <= position; ++key) add(key, 0, kNoBound);
    return keys;
  }
  const AttentionPlan& plan = *span.plan;
  const int64_t tile = query / plan.row_tile;
  const HeadProgram& program = plan.heads[head];
  for (const PlanSegment& segment : plan.segments.subspan(program.first, program.count)) {
    if (tile < segment.tile_begin || tile >= segment.tile_end) continue;
    const auto add_run = [&](int64_t first, int64_t count) {
      for (int64_t key = std::max<int64_t>(0, first); key < first + count && key <= position; ++key)
        add(key, segment.offset_begin, segment.offset_end);
    };
    switch (segment.kind) {
      case SegmentKind::kAbsolute:
        add_run(segment.first, segment.count);
        break;
      case SegmentKind::kRelative:
        add_run(span.query_offset + tile * plan.row_tile + segment.first, segment.count);
        break;
      case SegmentKind::kColumns:
        for (int32_t i = 0; i < segment.count; ++i) {
          const int32_t column = plan.columns[segment.first + i];
          if (!is_in_run(plan, program, column - span.query_offset - tile * plan.row_tile))
            add_run(column, 1);
        }
        break;
      case SegmentKind::kBlocks:
        for (int64_t block = 0; block < 32ll * segment.count; ++block)
          if (plan.block_bits[segment.first + tile * segment.count + block / 32] >> (block % 32) &
              1)
            add_run(block * 64, 64);
        break;
    }
  }
  return keys;
}

// One query row of one head. Returns the number of keys scored.
int64_t attend_row(const AttentionArgs& args, const AttentionSpan& span, int64_t query, int head) {
  const PagePool& pages = args.pages;
  const int head_dim = pages.head_dim;
  const int kv_head = head / (args.q_heads / pages.kv_heads);
  const int64_t row = span.first_row + query;
  const int64_t q_at = row * args.q_row_stride + int64_t{head} * head_dim;
  const std::vector<int64_t> keys = visible_keys(args, span, query, head);

  double maximum = -std::numeric_limits<double>::infinity();
  double denominator = 0;
  std::vector<double> sums(head_dim);
  for (const int64_t key : keys) {
    const std::byte* page = pages.page(span.page_table[key / kPageTokens]);
    const int64_t k_at = (int64_t{kv_head} * 2 * kPageTokens + key % kPageTokens) * head_dim;
    const int64_t v_at = k_at + kPageTokens * head_dim;
    double score = 0;
    for (int i = 0; i < head_dim; ++i)
      score += load(pages.dtype, args.q, q_at + i) * load(pages.dtype, page, k_at + i);
    score *= static_cast<double>(args.scale);
    if (score > maximum) {
      const double shrink = std::exp(maximum - score);
      denominator *= shrink;
      for (double& sum : sums) sum *= shrink;
      maximum = score;
    }
    const double weight = std::exp(score - maximum);
    denominator += weight;
    for (int i = 0; i < head_dim; ++i) sums[i] += weight * load(pages.dtype, page, v_at + i);
  }

  const int64_t out_row = row * args.q_heads + head;
  const double inverse = denominator > 0 ? 1 / denominator : 0;
  for (int i = 0; i < head_dim; ++i)
    store(pages.dtype, args.out, out_row * head_dim + i, sums[i] * inverse);
  if (args.lse) args.lse[out_row] = static_cast<float>(maximum + std::log(denominator));
  return std::ssize(keys);
}

}  // namespace

void run_attention_reference(const CpuContext& context, const AttentionArgs& args) {
  for (size_t i = 0; i < args.spans.size(); ++i) {
    const AttentionSpan& span = args.spans[i];
    std::atomic<int64_t> scored = 0;
    context.pool.parallel(span.rows * args.q_heads, [&](int64_t task, int) {
      if (context.cancelled()) return;
      scored += attend_row(args, span, task / args.q_heads, static_cast<int>(task % args.q_heads));
    });
    if (args.scored_pairs) args.scored_pairs[i] += static_cast<uint64_t>(scored.load());
  }
}

}  // namespace kvasir::kernels

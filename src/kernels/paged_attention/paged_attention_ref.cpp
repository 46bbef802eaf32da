#include <algorithm>
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

// One query row of one head.
void attend_row(const AttentionArgs& args, const AttentionSpan& span, int64_t query, int head) {
  const PagePool& pages = args.pages;
  const int head_dim = pages.head_dim;
  const int kv_head = head / (args.q_heads / pages.kv_heads);
  const int64_t position = span.query_offset + query;
  const int64_t row = span.first_row + query;
  const int64_t q_at = row * args.q_row_stride + int64_t{head} * head_dim;
  const int64_t lowest =
      args.window > 0 && position + 1 > args.window ? position + 1 - args.window : 0;

  double maximum = -std::numeric_limits<double>::infinity();
  double denominator = 0;
  std::vector<double> sums(head_dim);
  for (int64_t key = lowest; key <= position; ++key) {
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
}

}  // namespace

void run_attention_reference(const CpuContext& context, const AttentionArgs& args) {
  for (size_t i = 0; i < args.spans.size(); ++i) {
    const AttentionSpan& span = args.spans[i];
    context.pool.parallel(span.rows * args.q_heads, [&](int64_t task, int) {
      if (context.cancelled()) return;
      attend_row(args, span, task / args.q_heads, static_cast<int>(task % args.q_heads));
    });
    if (!args.scored_pairs) continue;
    for (int64_t query = 0; query < span.rows; ++query) {
      int64_t keys = std::max<int64_t>(0, span.query_offset + query + 1);
      if (args.window > 0) keys = std::min(keys, args.window);
      args.scored_pairs[i] += static_cast<uint64_t>(keys * args.q_heads);
    }
  }
}

}  // namespace kvasir::kernels

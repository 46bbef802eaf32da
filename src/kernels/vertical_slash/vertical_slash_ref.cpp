// The scalar definition of right, in f64.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/vertical_slash/vertical_slash.h"

namespace kvasir::kernels {
namespace {

double element(DType dtype, const void* data, int64_t index) {
  return dtype == DType::kF32 ? static_cast<const float*>(data)[index]
                              : bf16_to_f32(static_cast<const bf16_t*>(data)[index]);
}

// Shares of the query in span row `row` over the keys that it sees.
std::vector<double> shares_of(const VerticalSlashArgs& args, int head, int64_t row) {
  const PagePool& pages = args.pages;
  const int64_t q_at = row * args.q_row_stride + int64_t{head} * pages.head_dim;
  std::vector<double> shares(static_cast<size_t>(args.query_offset + row + 1));
  for (int64_t key = 0; key < std::ssize(shares); ++key) {
    const std::byte* page = pages.page(args.page_table[key / kPageTokens]);
    const int64_t k_at =
        (int64_t{args.kv_head} * 2 * kPageTokens + key % kPageTokens) * pages.head_dim;
    double score = 0;
    for (int i = 0; i < pages.head_dim; ++i)
      score += element(pages.dtype, args.q, q_at + i) * element(pages.dtype, page, k_at + i);
    shares[static_cast<size_t>(key)] = score * static_cast<double>(args.scale);
  }
  const double maximum = *std::ranges::max_element(shares);
  double sum = 0;
  for (double& share : shares) sum += share = std::exp(share - maximum);
  for (double& share : shares) share /= sum;
  return shares;
}

}  // namespace

void run_vertical_slash_reference(const CpuContext& context, const VerticalSlashArgs& args) {
  const int64_t length = args.query_offset + args.rows;
  context.pool.parallel(std::ssize(args.heads), [&](int64_t i, int) {
    std::vector<double> columns(static_cast<size_t>(length)), offsets(columns.size());
    for (int64_t row = std::max<int64_t>(0, args.rows - kEstimateQueries); row < args.rows; ++row) {
      if (context.cancelled()) return;
      const auto shares = shares_of(args, args.heads[static_cast<size_t>(i)], row);
      for (size_t key = 0; key < shares.size(); ++key) {
        columns[key] += shares[key];
        offsets[shares.size() - 1 - key] += shares[key];
      }
    }
    std::ranges::transform(columns, args.column_sums + i * args.sums_row_stride,
                           [](double sum) { return static_cast<float>(sum); });
    std::ranges::transform(offsets, args.offset_sums + i * args.sums_row_stride,
                           [](double sum) { return static_cast<float>(sum); });
  });
}

}  // namespace kvasir::kernels

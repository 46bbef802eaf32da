#include "prefill/means.h"

#include <algorithm>

namespace kvasir::prefill {
namespace {

// Adds `count` rows that lie `stride_bytes` apart.
void add_rows(DType dtype, const std::byte* row, int64_t stride_bytes, int64_t count,
              std::span<float> sums) {
  for (; count > 0; --count, row += stride_bytes) {
    if (dtype == DType::kF32) {
      const auto* values = reinterpret_cast<const float*>(row);
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += values[i];
    } else {
      const auto* values = reinterpret_cast<const bf16_t*>(row);
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += bf16_to_f32(values[i]);
    }
  }
}

void divide(std::span<float> sums, int64_t count) {
  for (float& sum : sums) sum /= static_cast<float>(count);
}

}  // namespace

void mean_key(const LayerQueries& queries, int kv_head, int64_t first, int64_t last,
              std::span<float> mean) {
  const kernels::PagePool& pages = queries.pages;
  const int64_t row_bytes = pages.head_dim * static_cast<int64_t>(dtype_bytes(pages.dtype));
  std::ranges::fill(mean, 0.0f);
  for (int64_t key = first; key < last;) {
    const int64_t row = key % kernels::kPageTokens;
    const int64_t count = std::min(last - key, kernels::kPageTokens - row);
    add_rows(pages.dtype,
             pages.page(queries.page_table[key / kernels::kPageTokens]) +
                 (kv_head * 2 * kernels::kPageTokens + row) * row_bytes,
             row_bytes, count, mean);
    key += count;
  }
  divide(mean, last - first);
}

void mean_query(const LayerQueries& queries, int head, int64_t first, int64_t last,
                std::span<float> mean) {
  const auto element = static_cast<int64_t>(dtype_bytes(queries.pages.dtype));
  std::ranges::fill(mean, 0.0f);
  add_rows(queries.pages.dtype,
           static_cast<const std::byte*>(queries.q) +
               (first * queries.q_row_stride + int64_t{head} * queries.pages.head_dim) * element,
           queries.q_row_stride * element, last - first, mean);
  divide(mean, last - first);
}

// Eight sums side by side, so that the compiler may use vectors.
float product(std::span<const float> x, std::span<const float> y) {
  float sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= x.size(); i += 8)
    for (size_t j = 0; j < 8; ++j) sums[j] += x[i + j] * y[i + j];
  for (; i < x.size(); ++i) sums[0] += x[i] * y[i];
  for (int j = 1; j < 8; ++j) sums[0] += sums[j];
  return sums[0];
}

}  // namespace kvasir::prefill

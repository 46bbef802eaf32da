#include "prefill/minference/block_sparse.h"

#include <algorithm>
#include <limits>

#include "prefill/minference/select.h"

namespace kvasir::prefill::minference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void add_row(DType dtype, const void* row, int64_t size, float* sums) {
  if (dtype == DType::kF32) {
    for (int64_t i = 0; i < size; ++i) sums[i] += static_cast<const float*>(row)[i];
  } else {
    for (int64_t i = 0; i < size; ++i) sums[i] += bf16_to_f32(static_cast<const bf16_t*>(row)[i]);
  }
}

// Appends the mean of `count` rows that lie `stride_bytes` apart.
void append_mean(DType dtype, const std::byte* rows, int64_t stride_bytes, int64_t count,
                 int64_t size, std::vector<float>& means) {
  means.resize(means.size() + static_cast<size_t>(size));
  float* mean = means.data() + std::ssize(means) - size;
  for (int64_t row = 0; row < count; ++row) add_row(dtype, rows + row * stride_bytes, size, mean);
  for (int64_t i = 0; i < size; ++i) mean[i] /= static_cast<float>(count);
}

// Eight sums side by side, so that the compiler may use vectors.
float product(const float* x, const float* y, int64_t size) {
  float sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= size; i += 8)
    for (int64_t j = 0; j < 8; ++j) sums[j] += x[i + j] * y[i + j];
  for (; i < size; ++i) sums[0] += x[i] * y[i];
  for (int j = 1; j < 8; ++j) sums[0] += sums[j];
  return sums[0];
}

}  // namespace

void block_means(const kernels::PagePool& pages, const uint32_t* page_table, int kv_head,
                 int64_t length, std::vector<float>& means) {
  static_assert(kBlockKeys == kernels::kPageTokens);
  const int64_t row_bytes = pages.head_dim * static_cast<int64_t>(dtype_bytes(pages.dtype));
  for (int64_t first = 0; first < length; first += kBlockKeys)
    append_mean(pages.dtype,
                pages.page(page_table[first / kBlockKeys]) + kv_head * 2 * kBlockKeys * row_bytes,
                row_bytes, std::min(kBlockKeys, length - first), pages.head_dim, means);
}

void tile_means(DType dtype, const void* q, int64_t q_row_stride, int head_dim, const Chunk& chunk,
                std::vector<float>& means) {
  const int64_t row_bytes = q_row_stride * static_cast<int64_t>(dtype_bytes(dtype));
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile)
    append_mean(dtype, static_cast<const std::byte*>(q) + tile * chunk.row_tile * row_bytes,
                row_bytes, chunk.tile_end(tile) - chunk.tile_position(tile), head_dim, means);
}

void append_block_sparse(std::span<const float> tile_means, std::span<const float> block_means,
                         int head_dim, const Chunk& chunk, const BlockSparseOptions& options,
                         PlanBuffer& output) {
  const int64_t all_blocks = (chunk.length() + kBlockKeys - 1) / kBlockKeys;
  const int64_t words = (all_blocks + 31) / 32;
  const size_t first_word = output.block_bits.size();
  output.block_bits.resize(first_word + static_cast<size_t>(chunk.tiles() * words));
  output.segments.push_back({.kind = kernels::SegmentKind::kBlocks,
                             .first = static_cast<int32_t>(first_word),
                             .count = static_cast<int32_t>(words)});
  std::vector<float> products, scratch;
  std::vector<int32_t> chosen;
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
    const int64_t blocks = (chunk.tile_end(tile) - 1) / kBlockKeys + 1;
    products.resize(static_cast<size_t>(blocks));
    for (int64_t block = 0; block < blocks; ++block)
      products[static_cast<size_t>(block)] = product(
          tile_means.data() + tile * head_dim, block_means.data() + block * head_dim, head_dim);
    if (options.force_diagonal)
      for (int64_t block = chunk.tile_position(tile) / kBlockKeys; block < blocks; ++block)
        products[static_cast<size_t>(block)] = kInfinity;
    if (options.force_sink) products[0] = kInfinity;
    select_highest(products, options.blocks, scratch, chosen);
    uint32_t* bits = output.block_bits.data() + first_word + tile * words;
    for (const int32_t block : chosen) bits[block / 32] |= uint32_t{1} << (block % 32);
  }
}

}  // namespace kvasir::prefill::minference

#include "prefill/minference/block_sparse.h"

#include <algorithm>
#include <limits>

#include "prefill/block_bitmap.h"
#include "prefill/means.h"
#include "prefill/select.h"

namespace kvasir::prefill::minference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

std::vector<float> block_means(const LayerQueries& queries, int kv_head) {
  const int64_t length = queries.chunk.length(), head_dim = queries.pages.head_dim;
  const int64_t blocks = (length + kBlockKeys - 1) / kBlockKeys;
  std::vector<float> means(static_cast<size_t>(blocks * head_dim));
  for (int64_t block = 0; block < blocks; ++block)
    mean_key(queries, kv_head, block * kBlockKeys, std::min(length, (block + 1) * kBlockKeys),
             std::span(means).subspan(static_cast<size_t>(block * head_dim),
                                      static_cast<size_t>(head_dim)));
  return means;
}

void append_block_sparse(const LayerQueries& queries, int head, std::span<const float> block_means,
                         const BlockSparseOptions& options, PlanBuffer& output) {
  const Chunk& chunk = queries.chunk;
  BlockBitmap bitmap(chunk, output);
  const auto head_dim = static_cast<size_t>(queries.pages.head_dim);
  std::vector<float> mean(head_dim), products, scratch;
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
    const int64_t first = tile * chunk.row_tile;
    const int64_t last = chunk.tile_end(tile) - chunk.query_offset;
    mean_query(queries, head, first, last, mean);
    const int64_t blocks = (chunk.tile_end(tile) - 1) / kBlockKeys + 1;
    products.resize(static_cast<size_t>(blocks));
    for (size_t block = 0; block < products.size(); ++block)
      products[block] = product(mean, block_means.subspan(block * head_dim, head_dim));
    if (options.force_diagonal)
      for (int64_t block = chunk.tile_position(tile) / kBlockKeys; block < blocks; ++block)
        products[static_cast<size_t>(block)] = kInfinity;
    if (options.force_sink) products[0] = kInfinity;
    cut_highest(products, options.blocks, scratch).for_each(products, [&](int64_t block) {
      bitmap.add(tile, block * kBlockKeys, (block + 1) * kBlockKeys);
    });
  }
  output.segments.push_back(bitmap.segment());
}

}  // namespace kvasir::prefill::minference

#pragma once
// Block-sparse heads (MInference, arXiv 2407.02490, Alg. 3): per row tile the blocks of 64 keys
// whose mean key has the highest product with the tile's mean query. Neither scale nor softmax is
// needed, as in the released code: they do not change a row's order. Differences from it: means
// divide by the real count of a last part block, there is no extra block behind a last whole one,
// and the blocks of a tile's own positions and the first block can be forced, within the budget.

#include <cstdint>
#include <span>
#include <vector>

#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill::minference {

inline constexpr int64_t kBlockKeys = 64;

struct BlockSparseOptions {
  int64_t blocks = 100;  // of each row tile
  // The blocks that hold a tile's own positions: without them, a tile that does not start at a
  // multiple of 64 may leave queries with no key at all.
  bool force_diagonal = true;
  bool force_sink = true;
};

// Means over the blocks of keys of a KV head: [blocks, head_dim].
std::vector<float> block_means(const LayerQueries& queries, int kv_head);

// Appends one kBlocks segment for a query head. Of a tile, blocks that hold at least one key that
// its last query sees compete; equal products go to the lower block.
void append_block_sparse(const LayerQueries& queries, int head, std::span<const float> block_means,
                         const BlockSparseOptions& options, PlanBuffer& output);

}  // namespace kvasir::prefill::minference

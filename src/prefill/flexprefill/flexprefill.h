#pragma once
// FlexPrefill's plan of one chunk in one layer (arXiv 2502.20766), as in the copy of it that
// MInference's repository has: each head is either a vertical-slash or a query-aware one, and takes
// as many blocks as hold a share `gamma` of its attention. Blocks are of 128 keys.
//
// From the exact attention of the chunk's last 128 queries, averaged over them, come the mass of
// every key and of every distance (kernels/vertical_slash). The mean of these queries against the
// mean key of every block estimates the mass of the blocks; where its Jensen-Shannon distance to
// the true one (the root of the divergence, natural logarithm) is below `tau`, means can be trusted
// and the head is query-aware.
// - Vertical-slash: n = the fewest keys that hold gamma of the mass give n / 128 + 1 blocks, taken
//   by the highest mass; so do distances, whose groups of 128 count from the farthest one on.
//   Block v is attended to by every query; of group t, where 0 is the nearest, a row tile at
//   position p gets the 128 keys from p - 128 t on.
// - Query-aware: the fewest least, `min_blocks` of each, and of the softmax of mean queries (of row
//   tiles) against mean keys the highest entries of the whole map that hold gamma of it.
// The first block and a tile's own positions are always taken and count: where one key holds gamma
// of the mass, its block is not taken unless it is the first one or `min_blocks` is 2.
//
// Differences from the published code: 0 * log 0 is 0 in the divergence (there it is NaN, and the
// head never query-aware); equal masses go to the lower block; what reaches gamma is included in
// the map; a later chunk's last queries stand for that chunk, and its row tiles count from its
// first query, so that strips of keys may begin at any multiple of 64 before them.

#include "kernels/context.h"
#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill::flexprefill {

inline constexpr int64_t kBlock = 128;
constexpr int64_t blocks_of(int64_t keys) { return (keys + kBlock - 1) / kBlock; }
// All heads are dense where there are no more blocks.
constexpr int64_t dense_blocks(int64_t min_blocks) { return min_blocks < 2 ? 2 : min_blocks; }

struct Options {
  double gamma = 0.95;     // the authors' setting for accuracy; the released code's is 0.9
  double tau = 0.1;        // 0: no head is query-aware
  int64_t min_blocks = 1;  // of columns and of distances, each
  // A head whose plan holds a larger share of the pairs is made dense: about there the kernel for
  // plans takes as long as the dense one.
  double densest = 0.7;
};

struct FlexReport : Report {
  int query_aware_heads = 0;
};

// Appends the programs of heads 0 to q_heads - 1, in that order; all are dense where there are no
// more than 2 blocks or min_blocks of them. chunk.row_tile is 128. Work is dealt to context.pool;
// the plan is the same on every number of threads. Where context is cancelled the output is
// unspecified, yet a well-formed plan.
//
// Workspace: 16 bytes a key and query head of a KV head, 4 bytes for each row tile and block of the
// chunk, and 4 * head_dim bytes a block.
FlexReport plan_layer(const kernels::CpuContext& context, const Options& options,
                      const LayerQueries& queries, Workspace& workspace, PlanBuffer& output);

// The root of the Jensen-Shannon divergence of two distributions of the same size.
double jensen_shannon_distance(std::span<const float> p, std::span<const float> q);

}  // namespace kvasir::prefill::flexprefill

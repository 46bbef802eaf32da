#pragma once
// XAttention's plan of one chunk in one layer (arXiv 2503.16428): of every row tile of 128 queries
// the fewest blocks of 128 keys that hold `threshold` of the attention, as antidiagonals estimate
// it (kernels/antidiagonal).
//
// Blocks of keys begin at multiples of 128 positions, row tiles and groups of queries at the
// chunk's first query. The first block and those that hold a tile's own positions (one, or two
// where the chunk begins between multiples of 128) are always taken, and what they hold counts. The
// others follow from the highest mass down, of equal ones the lower block first, until the
// threshold is reached; the block that reaches it is the last one. A chunk that begins at a
// multiple of 128 therefore gets the rows that it has in the plan of the whole prompt.

#include <vector>

#include "kernels/context.h"
#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill::xattention {

struct Options {
  int stride = 8;          // 8 or 16: queries and keys of a group
  double threshold = 0.9;  // at least 1: all blocks
  // [layers, q_heads]: a threshold for each head instead; or empty.
  std::vector<float> head_thresholds;
  // A head whose plan holds a larger share of the pairs is made dense: about there the kernel for
  // plans takes as long as the dense one.
  double densest = 0.7;
};

// Appends the programs of heads 0 to q_heads - 1, in that order. chunk.row_tile is 128. Work is
// dealt to context.pool; the plan is the same on every number of threads. Where context is
// cancelled the output is unspecified, yet a well-formed plan.
//
// Workspace: about 32 row tiles of all query heads of a KV head are estimated at once, for which it
// holds 33 bytes a key at stride 8, 17 at stride 16, and 128 * stride * head_dim bytes a row tile.
Report plan_layer(const kernels::CpuContext& context, const Options& options,
                  const LayerQueries& queries, Workspace& workspace, PlanBuffer& output);

}  // namespace kvasir::prefill::xattention

#pragma once
// MInference's plan of one chunk in one layer (arXiv 2407.02490): what each query head attends to,
// by the head's pattern in the configuration and, for two of the three patterns, by the chunk's
// queries and the keys so far.

#include <cstdint>

#include "formats/head_config.h"
#include "kernels/context.h"
#include "prefill/layer_queries.h"
#include "prefill/minference/block_sparse.h"
#include "prefill/minference/vertical_slash_index.h"
#include "prefill/planner.h"

namespace kvasir::prefill::minference {

enum class IndexMode : uint8_t {
  kRelative,   // the canonical index: the same for every row tile
  kReference,  // the released code's merge, tile by tile; row tiles of 64
};

struct Options {
  double ratio = 1;  // times both budgets of vertical-slash heads
  // Above 0: instead of both budgets, as many columns and as many offsets as hold this share of the
  // estimated attention.
  double mass = 0;
  IndexMode index = IndexMode::kRelative;
  // A vertical-slash head whose index holds a larger share of the pairs is made dense.
  double densest = 0.5;
  BlockSparseOptions blocks;
};

// Appends the programs of heads 0 to q_heads - 1, in that order. Work is dealt to context.pool.
// Where context is cancelled the output is unspecified, yet a well-formed plan.
Report plan_layer(const kernels::CpuContext& context, const Options& options,
                  const formats::HeadConfig& config, const LayerQueries& queries,
                  Workspace& workspace, PlanBuffer& output);

}  // namespace kvasir::prefill::minference

#pragma once
// MInference's plan of one chunk in one layer (arXiv 2407.02490): what each query head attends to,
// by the head's pattern in the configuration and, for two of the three patterns, by the chunk's
// queries and the keys so far. The chunk's keys are in the pages already, rotated like the queries.

#include <cstdint>
#include <vector>

#include "formats/head_config.h"
#include "kernels/context.h"
#include "kernels/page.h"
#include "prefill/minference/block_sparse.h"
#include "prefill/minference/chunk.h"
#include "prefill/minference/vertical_slash_index.h"
#include "prefill/planner.h"

namespace kvasir::prefill::minference {

enum class IndexMode : uint8_t {
  kRelative,   // the canonical index: the same for every row tile
  kReference,  // the released code's merge, tile by tile; row tiles of 64
};

struct Options {
  double ratio = 1;  // times both budgets of vertical-slash heads
  IndexMode index = IndexMode::kRelative;
  // A vertical-slash head whose index holds a larger share of the pairs is made dense.
  double densest = 0.5;
  BlockSparseOptions blocks;
};

struct LayerQueries {
  int layer = 0;
  Chunk chunk;
  const void* q = nullptr;   // [rows, q_heads, head_dim] in pages.dtype, of the chunk's first row
  int64_t q_row_stride = 0;  // elements
  int q_heads = 0;
  float scale = 0;  // usually 1 / sqrt(head_dim)
  kernels::PagePool pages;
  const uint32_t* page_table = nullptr;
};

struct Report {
  uint64_t scored_pairs = 0;  // query-key pairs that the estimates scored
  int dense_heads = 0;        // vertical-slash heads made dense
  double densest_head = 0;    // the largest share of pairs among the heads that were not
};

// Memory that is used again and again; belongs to one call at a time.
class Workspace {
 public:
  std::byte* bytes(size_t size);  // 64-byte aligned, contents unspecified

  std::vector<float> column_sums, offset_sums;  // [heads of a KV head, length]
  std::vector<Selection> selections;
  std::vector<float> tile_means, block_means;

 private:
  std::vector<std::byte> bytes_;
};

// Appends the programs of heads 0 to q_heads - 1, in that order. Work is dealt to context.pool.
// Where context is cancelled the output is unspecified, yet a well-formed plan.
Report plan_layer(const kernels::CpuContext& context, const Options& options,
                  const formats::HeadConfig& config, const LayerQueries& queries,
                  Workspace& workspace, PlanBuffer& output);

}  // namespace kvasir::prefill::minference

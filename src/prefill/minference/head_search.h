#pragma once
// Which pattern each query head of a layer should have (MInference, arXiv 2407.02490, Alg. 1;
// Qwen2.5-1M, arXiv 2501.15383, Alg. 1): every candidate is planned and run by the kernels that
// later serve it, on the queries and keys of a real text, and held against dense attention.
//
// Differences from the published searches: nothing of the size of the map of scores is ever in
// memory, values count (objective `output`), chunks are those that a prompt is cut into, and a head
// whose plan would be made dense at run time is dense here.

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/head_config.h"
#include "kernels/context.h"
#include "prefill/plan_meter.h"

namespace kvasir::prefill::minference {

enum class Objective : uint8_t {
  kOutput,  // least HeadMeasure::error
  kRecall,  // most HeadMeasure::recall
  kCount,   // least HeadMeasure::count
};
std::string_view objective_name(Objective objective);  // "output", "recall", "count5e-3"

struct HeadSearchOptions {
  Objective objective = Objective::kOutput;
  std::vector<formats::HeadPattern> candidates;  // at least one; of equal ones the first wins
  // Above 0: the numbers of every candidate are scaled, head by head, to the most that computes at
  // most this share of the pairs of dense attention. Block-sparse candidates, whose size is fixed,
  // compete where theirs is at most a quarter larger.
  double density = 0;
  // Above 0: the winner's numbers grow until its mean recall is at least that. A block-sparse
  // winner grows as the first other candidate.
  double recall = 0;
  int64_t chunk = 8192;  // rows that are planned together
};

// The candidates of the paper (table 7) in the released code's sizes, and block-sparse.
std::vector<formats::HeadPattern> default_candidates();

struct TriedPattern : HeadMeasure {
  formats::HeadPattern pattern;
};

struct HeadChoice {
  TriedPattern best;  // its pattern's score is the objective's
  std::vector<TriedPattern> tried;
};

// [q_heads]. `queries` are all rows of a text in one layer. Memory: that of
// a PlanMeter. `between` is called between runs of a chunk with the share of the
// work done so far, as far as it is known; what it throws ends the search. May be null.
std::vector<HeadChoice> search_heads(const kernels::CpuContext& context,
                                     const HeadSearchOptions& options, const LayerQueries& queries,
                                     const DenseResult& dense,
                                     const std::function<void(double)>& between);

}  // namespace kvasir::prefill::minference

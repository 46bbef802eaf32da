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
#include "prefill/layer_queries.h"

namespace kvasir::prefill::minference {

enum class Objective : uint8_t {
  kOutput,  // mean over rows of |sparse - dense| / |dense| of a head's output; least is best
  kRecall,  // mean over rows of the softmax's weight on kept keys; most is best
  kCount,   // elements of the output that differ by more than 5e-3; least is best
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

// A pattern with its measurements over all rows.
struct TriedPattern {
  formats::HeadPattern pattern;
  double error = 0;    // objective kOutput
  double recall = 1;   // objective kRecall
  int64_t count = 0;   // objective kCount
  double density = 1;  // pairs that kernels compute over those of dense attention
};

struct HeadChoice {
  TriedPattern best;  // its pattern's score is the objective's
  std::vector<TriedPattern> tried;
};

// What dense attention gave for the rows.
struct DenseResult {
  const void* out = nullptr;   // [rows, q_heads, head_dim] in pages.dtype, dense
  const float* lse = nullptr;  // [rows, q_heads]
};

// [q_heads]. `queries` are all rows of a text in one layer. Memory: chunk * q_heads * head_dim and
// what planning a chunk takes. `between` is called between runs of a chunk with the share of the
// work done so far, as far as it is known; what it throws ends the search. May be null.
std::vector<HeadChoice> search_heads(const kernels::CpuContext& context,
                                     const HeadSearchOptions& options, const LayerQueries& queries,
                                     const DenseResult& dense,
                                     const std::function<void(double)>& between);

}  // namespace kvasir::prefill::minference

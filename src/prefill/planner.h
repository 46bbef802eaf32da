#pragma once
// What a prefill method does for a request: it says what the queries of a chunk attend to, layer by
// layer, in the format that the attention kernels execute.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "kernels/paged_attention/attention_plan.h"
#include "kvasir/request.h"

namespace kvasir::prefill {

struct ModelShape {
  int layers = 0;
};

// Consecutive queries of one prompt in one layer.
struct PlanSite {
  int layer = 0;
  int q_heads = 0;
  int64_t query_offset = 0;   // position of the first query
  int64_t rows = 0;           // at least one
  int64_t prompt_length = 0;  // of the whole prompt, this chunk's and later ones' tokens included
};

// Rows [first, last) of a site.
struct RowRange {
  int64_t first = 0;
  int64_t last = 0;
  bool empty() const { return first >= last; }
};

// An attention plan with its arrays, which are used again and again.
struct PlanBuffer {
  int32_t row_tile = 64;
  std::vector<kernels::HeadProgram> heads;
  std::vector<kernels::PlanSegment> segments;
  std::vector<int32_t> columns;
  std::vector<uint32_t> block_bits;

  void clear();
  // Ends the program of the next head: the segments from `first` on.
  void end_head(size_t first) {
    heads.push_back({.first = static_cast<int32_t>(first),
                     .count = static_cast<int32_t>(segments.size() - first)});
  }
  kernels::AttentionPlan view() const;  // until the buffer changes
};

// A method with its options, for one model. Immutable: requests may share it.
class Planner {
 public:
  virtual ~Planner() = default;
  // Returns the rows that `plan` is then for, as if they were a span of their own; the others
  // attend to all positions before them. Where it is empty, `plan` is unspecified.
  virtual RowRange plan(const PlanSite& site, PlanBuffer& plan) const = 0;
};

// The planner of a choice whose name and options have been checked (base/method.h); null for dense.
// Errors: kInvalidArgument for options that do not fit the model.
Result<std::shared_ptr<const Planner>> make_planner(const MethodChoice& choice,
                                                    const ModelShape& model);

}  // namespace kvasir::prefill

#pragma once
// What a prefill method does for a request: it says what the queries of a chunk attend to, layer by
// layer, in the format that the attention kernels execute.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/context.h"
#include "kernels/paged_attention/attention_plan.h"
#include "kvasir/request.h"
#include "prefill/gpu_recipe.h"
#include "prefill/layer_queries.h"

namespace kvasir::prefill {

// What options are checked against.
struct ModelShape {
  int layers = 0;
  int q_heads = 0;
  std::filesystem::path folder;  // where a model may bring a method's configuration along
};

// Consecutive queries of one prompt in one layer.
struct PlanSite {
  int layer = 0;
  int q_heads = 0;
  int64_t query_offset = 0;   // position of the first query
  int64_t rows = 0;           // at least one
  int64_t prompt_length = 0;  // of the whole prompt, this chunk's and later ones' tokens included
  int64_t window = 0;         // of the layer; 0 = unlimited

  // For methods that plan from queries and keys; the queries' own keys are in the pages.
  const void* q = nullptr;   // [rows, q_heads, head_dim] in pages.dtype, rotated
  int64_t q_row_stride = 0;  // elements
  float scale = 0;
  kernels::PagePool pages;
  const uint32_t* page_table = nullptr;
  const kernels::CpuContext* context = nullptr;
  Workspace* workspace = nullptr;  // cleared

  // Of all rows, in row tiles of `row_tile`.
  LayerQueries queries(int32_t row_tile) const;
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

// The rows that a plan is for, as if they were a span of their own; the others attend to all
// positions before them.
struct Planned {
  RowRange rows;
  Report report;  // of methods that plan from queries
};

// A method with its options, for one model. Immutable: requests may share it.
class Planner {
 public:
  virtual ~Planner() = default;
  // Where no rows are returned, `plan` is unspecified.
  virtual Planned plan(const PlanSite& site, PlanBuffer& plan) const = 0;
  // Whether plans depend on the queries and thereby on where the prompt is cut into chunks: it is
  // then cut at multiples of one number of tokens, whatever else is in the batch.
  virtual bool plans_from_queries() const { return false; }
  // Of a layer that is planned from queries; plan() has to be called in all others.
  virtual std::optional<GpuRecipe> gpu_recipe(int /*layer*/) const { return std::nullopt; }
  // Why it does not run on a GPU; nothing where it does.
  virtual std::optional<std::string> gpu_refusal() const { return std::nullopt; }
};

// A method whose plans depend on the queries: what they have in common.
class QueryPlanner : public Planner {
 public:
  // All rows of the site, or none where can_plan_from_queries() says no.
  Planned plan(const PlanSite& site, PlanBuffer& plan) const final;
  bool plans_from_queries() const final { return true; }

 protected:
  explicit QueryPlanner(int32_t row_tile) : row_tile_(row_tile) {}
  // Appends the programs of all heads to an empty plan. `queries` are all rows of the site.
  virtual Report plan_heads(const PlanSite& site, const LayerQueries& queries,
                            PlanBuffer& plan) const = 0;

 private:
  const int32_t row_tile_;
};

// Whether methods that plan from queries do so: they take all keys to be visible, and of fewer rows
// the estimate would read the keys as often as dense attention does.
constexpr bool can_plan_from_queries(int64_t rows, int64_t window) {
  return window == 0 && rows >= 256;
}

// The planner of a choice whose name and options have been checked (base/method.h); null for dense.
// Errors: kInvalidArgument for options that do not fit the model.
Result<std::shared_ptr<const Planner>> make_planner(const MethodChoice& choice,
                                                    const ModelShape& model);

}  // namespace kvasir::prefill

#pragma once
// How well plans keep to dense attention, on all rows of a text in one layer: they are made and run
// chunk by chunk by the kernels that later serve them. For searches.

#include <functional>
#include <vector>

#include "kernels/context.h"
#include "kernels/paged_attention/plan_size.h"
#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill {

// What dense attention gave for the rows.
struct DenseResult {
  const void* out = nullptr;   // [rows, q_heads, head_dim] in pages.dtype, dense
  const float* lse = nullptr;  // [rows, q_heads]
};

// Of a head, over all rows.
struct HeadMeasure {
  double error = 0;    // mean over rows of |sparse - dense| / |dense| of the head's output
  double recall = 0;   // mean over rows of the softmax's weight on kept keys
  int64_t count = 0;   // elements of the output that differ by more than 5e-3
  double density = 0;  // pairs that kernels compute over those of dense attention
};

class PlanMeter {
 public:
  // Appends the programs of all heads for a chunk of the rows to an empty plan.
  using MakePlan = std::function<void(const LayerQueries&, Workspace&, PlanBuffer&)>;
  // Called between runs of a chunk with the share of the rows that is done; what it throws ends the
  // measurement.
  using Between = std::function<void(double)>;

  // `queries` are all rows of a text. Memory: chunk * q_heads * head_dim beside that of a plan.
  PlanMeter(const kernels::CpuContext& context, const LayerQueries& queries,
            const DenseResult& dense, int64_t chunk);

  size_t heads() const { return static_cast<size_t>(queries_.q_heads); }
  // [heads]; of heads that are not `asked` (empty: all are), only the density.
  std::vector<HeadMeasure> measure(const MakePlan& make, const std::vector<bool>& asked,
                                   const Between& between);
  // The density alone: nothing is run.
  std::vector<double> densities(const MakePlan& make, const Between& between);

 private:
  LayerQueries plan(const MakePlan& make, int64_t first);
  void add_sizes(const Chunk& chunk, std::vector<kernels::PlanSize>& sizes) const;
  void attend(const LayerQueries& part);
  void compare(int64_t first, int64_t rows, int64_t head, HeadMeasure& sums) const;

  const kernels::CpuContext context_;
  const LayerQueries queries_;
  const DenseResult dense_;
  const int64_t chunk_;
  PlanBuffer plan_;
  Workspace workspace_;
  std::vector<std::byte> out_;  // of a chunk
  std::vector<float> lse_;
};

}  // namespace kvasir::prefill

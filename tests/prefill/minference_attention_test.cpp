// Plans of MInference run by the attention kernels: against masked attention in double precision.

#include <gtest/gtest.h>

#include "kernels/paged_attention_problem.h"
#include "prefill/held.h"
#include "prefill/minference/minference.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadPatternKind;
using kernels::AttentionProblem;

// Largest difference of an output from masked attention.
double largest_error(const AttentionProblem& problem, const kernels::AttentionResult& result,
                     const PlanBuffer& plan, const Chunk& chunk) {
  const kernels::AttentionShape& shape = problem.shape();
  const int64_t dim = shape.head_dim;
  const auto* q = reinterpret_cast<const float*>(problem.q());
  double largest = 0;
  for (int head = 0; head < shape.q_heads; ++head) {
    const Held held(plan, plan.heads[static_cast<size_t>(head)], chunk);
    const int kv_head = head / (shape.q_heads / shape.kv_heads);
    for (int64_t row = 0; row < chunk.rows; ++row) {
      double denominator = 0;
      std::vector<double> sums(static_cast<size_t>(dim));
      for (int64_t key = 0; key < chunk.length(); ++key) {
        if (!held.is_held(row, key)) continue;
        const auto* k = reinterpret_cast<const float*>(
                            problem.pool() + problem.table(0)[static_cast<size_t>(key / 64)] *
                                                 problem.page_bytes()) +
                        (kv_head * 2 * 64 + key % 64) * dim;
        double score = 0;
        for (int64_t i = 0; i < dim; ++i)
          score += double{q[row * problem.q_stride() + head * dim + i]} * k[i];
        const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
        denominator += weight;
        for (int64_t i = 0; i < dim; ++i) sums[static_cast<size_t>(i)] += weight * k[64 * dim + i];
      }
      for (int64_t i = 0; i < dim; ++i)
        largest = std::max(
            largest,
            std::abs(sums[static_cast<size_t>(i)] / denominator -
                     result.value(DType::kF32,
                                  static_cast<size_t>((row * shape.q_heads + head) * dim + i))));
    }
  }
  return largest;
}

TEST(MinferenceAttention, KernelsAttendToWhatThePlanHolds) {
  formats::HeadConfig config;
  config.layers.resize(1);
  config.layers[0] = {{0, {HeadPatternKind::kVerticalSlash, 200, 110, {}}},
                      {1, {HeadPatternKind::kVerticalSlash, 60, 104, {}}},
                      {2, {HeadPatternKind::kBlockSparse, 0, 0, {}}},
                      {3, {HeadPatternKind::kAShape, 30, 100, {}}}};
  for (const auto index : {IndexMode::kRelative, IndexMode::kReference})
    for (const int32_t row_tile : {64, 128}) {
      if (index == IndexMode::kReference && row_tile == 128) continue;
      const Chunk chunk{.query_offset = 401, .rows = 500, .row_tile = row_tile};
      const AttentionProblem problem({.q_heads = 4,
                                      .kv_heads = 2,
                                      .head_dim = 64,
                                      .spans = {{chunk.rows, chunk.query_offset}}},
                                     DType::kF32);
      ThreadPool pool(2);
      Workspace workspace;
      PlanBuffer plan;
      Options options{.index = index, .densest = 1};
      options.blocks.blocks = 5;
      plan_layer({.pool = pool}, options, config,
                 {.chunk = chunk,
                  .q = problem.q(),
                  .q_row_stride = problem.q_stride(),
                  .q_heads = 4,
                  .scale = 0.125f,
                  .pages = {.base = const_cast<std::byte*>(problem.pool()),
                            .page_bytes = problem.page_bytes(),
                            .dtype = DType::kF32,
                            .kv_heads = 2,
                            .head_dim = 64},
                  .page_table = problem.table(0).data()},
                 workspace, plan);
      const kernels::AttentionPlan view{.row_tile = row_tile,
                                        .heads = plan.heads,
                                        .segments = plan.segments,
                                        .columns = plan.columns,
                                        .block_bits = plan.block_bits};
      auto spans = problem.spans();
      spans[0].plan = &view;
      for (const Isa isa : kernels::attention_isas(problem.desc())) {
        auto result = problem.empty_result();
        problem.run({.pool = pool}, spans, &isa, false, result);
        EXPECT_LT(largest_error(problem, result, plan, chunk), 2e-5)
            << static_cast<int>(index) << ", tiles of " << row_tile;
      }
    }
}

}  // namespace
}  // namespace kvasir::prefill::minference

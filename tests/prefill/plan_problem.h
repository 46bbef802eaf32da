#pragma once
// An attention problem of one span as what dynamic methods plan from, and its plans run.

#include <cmath>
#include <set>

#include "kernels/paged_attention_problem.h"
#include "prefill/held.h"
#include "prefill/layer_queries.h"

namespace kvasir::prefill {

// The problem's rows from `first` on, up to `last`.
inline LayerQueries queries_of(const kernels::AttentionProblem& problem, int64_t first,
                               int64_t last) {
  const auto& shape = problem.shape();
  const auto bytes = static_cast<int64_t>(dtype_bytes(problem.dtype()));
  return {.chunk = {.query_offset = shape.spans[0].query_offset + first,
                    .rows = last - first,
                    .row_tile = 128},
          .q = problem.q() + first * problem.q_stride() * bytes,
          .q_row_stride = problem.q_stride(),
          .q_heads = shape.q_heads,
          .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
          .pages = {.base = const_cast<std::byte*>(problem.pool()),
                    .page_bytes = problem.page_bytes(),
                    .dtype = problem.dtype(),
                    .kv_heads = shape.kv_heads,
                    .head_dim = shape.head_dim},
          .page_table = problem.table(0).data()};
}

inline LayerQueries queries_of(const kernels::AttentionProblem& problem) {
  return queries_of(problem, 0, problem.shape().spans[0].rows);
}

// K (piece 0) or V (piece 1) of a position, f32.
inline float* f32_row(const kernels::AttentionProblem& problem, int kv_head, int piece,
                      int64_t position) {
  return reinterpret_cast<float*>(const_cast<std::byte*>(problem.pool()) +
                                  problem.table(0)[static_cast<size_t>(position / 64)] *
                                      problem.page_bytes()) +
         ((kv_head * 2 + piece) * 64 + position % 64) * problem.shape().head_dim;
}

inline float* f32_query(const kernels::AttentionProblem& problem, int64_t row, int head) {
  return reinterpret_cast<float*>(const_cast<std::byte*>(problem.q())) + row * problem.q_stride() +
         head * problem.shape().head_dim;
}

// Blocks of 128 keys that a tile of a head meets.
inline std::set<int64_t> blocks_of_tile(const Held& held, const Chunk& chunk, int64_t tile) {
  std::set<int64_t> blocks;
  const int64_t row = chunk.tile_end(tile) - 1 - chunk.query_offset;
  for (int64_t key = 0; key < chunk.tile_end(tile); ++key)
    if (held.is_held(row, key)) blocks.insert(key / 128);
  return blocks;
}

inline bool is_dense(const PlanBuffer& plan, const Chunk& chunk) {
  for (const auto& program : plan.heads) {
    const Held held(plan, program, chunk);
    for (int64_t row = 0; row < chunk.rows; ++row)
      if (held.keys(row) != chunk.query_offset + row + 1) return false;
  }
  return true;
}

// Runs the plan after what no query of its KV head attends to has become NaN, keys and values, on
// every instruction set; f32. Whether all results are numbers.
inline bool reads_only_what_is_planned(const kernels::AttentionProblem& problem,
                                       const PlanBuffer& plan) {
  const auto& shape = problem.shape();
  const Chunk chunk = queries_of(problem).chunk;
  const int group = shape.q_heads / shape.kv_heads;
  for (int kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    std::set<int64_t> used;
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const Held held(plan, plan.heads[static_cast<size_t>(head)], chunk);
      for (int64_t key = 0; key < chunk.length(); ++key)
        for (int64_t row = 0; row < chunk.rows; ++row)
          if (held.is_held(row, key)) used.insert(key / 64);
    }
    if (std::ssize(used) == (chunk.length() + 63) / 64) return false;  // shows nothing
    for (int64_t key = 0; key < chunk.length(); ++key)
      for (int piece = 0; piece < 2 && !used.contains(key / 64); ++piece)
        std::fill_n(f32_row(problem, kv_head, piece, key), shape.head_dim, NAN);
  }
  ThreadPool pool(1);
  const kernels::AttentionPlan view = plan.view();
  auto spans = problem.spans();
  spans[0].plan = &view;
  for (const Isa isa : kernels::attention_isas(problem.desc())) {
    auto result = problem.empty_result();
    problem.run({.pool = pool}, spans, &isa, false, result);
    for (size_t i = 0; i < static_cast<size_t>(chunk.rows * shape.q_heads * shape.head_dim); ++i)
      if (std::isnan(result.value(DType::kF32, i))) return false;
  }
  return true;
}

}  // namespace kvasir::prefill

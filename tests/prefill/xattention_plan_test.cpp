// Plans of XAttention: against masses in double precision, and run by the attention kernels.

#include <gtest/gtest.h>

#include "kernels/antidiagonal/antidiagonal.h"
#include "prefill/plan_problem.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill::xattention {
namespace {

using kernels::AttentionProblem;
using kernels::AttentionShape;

Report plan_of(const LayerQueries& queries, const Options& options, PlanBuffer& plan,
               int threads = 1) {
  ThreadPool pool(threads);
  Workspace workspace;
  return plan_layer({.pool = pool}, options, queries, workspace, plan);
}

const AttentionShape kShapes[] = {
    {.q_heads = 6, .kv_heads = 2, .head_dim = 64, .spans = {{700, 0}}, .query_scale = 12},
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{300, 645}}, .query_scale = 12},
    {.q_heads = 2, .kv_heads = 2, .head_dim = 40, .spans = {{515, 384}}, .query_scale = 12},
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{9, 1000}}, .query_scale = 12},
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{50, 0}}, .query_scale = 12},
};

// Every tile holds the forced blocks and of the others the highest, as many as reach the threshold.
TEST(XAttention, TakesTheFewestBlocksThatReachTheThreshold) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const AttentionShape& shape : kShapes)
      for (const int stride : {8, 16})
        for (const double threshold : {0.5, 0.9}) {
          const AttentionProblem problem(shape, dtype);
          const LayerQueries queries = queries_of(problem);
          const Chunk& chunk = queries.chunk;
          SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " rows " << chunk.rows
                                          << " stride " << stride << " to " << threshold);
          PlanBuffer plan;
          plan_of(queries, {.stride = stride, .threshold = threshold, .densest = 1}, plan, 2);
          const int64_t blocks = (chunk.length() + 127) / 128;
          std::vector<float> masses(static_cast<size_t>(chunk.tiles() * blocks));
          ThreadPool pool(1);
          for (int32_t head = 0; head < shape.q_heads; ++head) {
            kernels::run_antidiagonal_reference({.pool = pool},
                                                {.q = queries.q,
                                                 .q_row_stride = queries.q_row_stride,
                                                 .rows = chunk.rows,
                                                 .query_offset = chunk.query_offset,
                                                 .pages = queries.pages,
                                                 .page_table = queries.page_table,
                                                 .kv_head = head / (shape.q_heads / shape.kv_heads),
                                                 .heads = std::span(&head, 1),
                                                 .scale = queries.scale,
                                                 .stride = stride,
                                                 .masses = masses.data(),
                                                 .mass_row_stride = blocks});
            const Held held(plan, plan.heads[static_cast<size_t>(head)], chunk);
            for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
              const auto kept = blocks_of_tile(held, chunk, tile);
              const float* row = masses.data() + tile * blocks;
              double all = 0, taken = 0, lowest = 1e9, highest_left = 0;
              for (int64_t block = 0; block <= (chunk.tile_end(tile) - 1) / 128; ++block) {
                all += row[block];
                const bool is_forced = block == 0 || block >= chunk.tile_position(tile) / 128;
                if (kept.contains(block)) taken += row[block];
                if (kept.contains(block) && !is_forced)
                  lowest = std::min<double>(lowest, row[block]);
                if (!kept.contains(block)) {
                  ASSERT_FALSE(is_forced);
                  highest_left = std::max<double>(highest_left, row[block]);
                }
              }
              ASSERT_GE(lowest, highest_left - 1e-3);
              ASSERT_GE(taken, threshold * all - 1e-3);
              if (lowest < 1e9) {
                ASSERT_LT(taken - lowest, threshold * all + 1e-3);
              }
            }
          }
        }
}

TEST(XAttention, ThresholdOneIsDenseAndNoneIsSinkAndDiagonal) {
  for (const AttentionShape& shape : kShapes) {
    const AttentionProblem problem(shape, DType::kF32);
    const LayerQueries queries = queries_of(problem);
    const Chunk& chunk = queries.chunk;
    for (const double densest : {0.7, 1.0}) {
      PlanBuffer all;
      EXPECT_EQ(plan_of(queries, {.threshold = 1, .densest = densest}, all).dense_heads,
                densest < 1 ? shape.q_heads : 0);
      EXPECT_TRUE(is_dense(all, chunk));
    }
    PlanBuffer fewest;
    const Report report = plan_of(queries, {.threshold = 0, .densest = 1}, fewest);
    EXPECT_LE(report.densest_head, 1);
    for (const auto& program : fewest.heads) {
      const Held held(fewest, program, chunk);
      for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
        std::set<int64_t> expected{0};
        for (int64_t key = chunk.tile_position(tile); key < chunk.tile_end(tile); ++key)
          expected.insert(key / 128);
        EXPECT_EQ(blocks_of_tile(held, chunk, tile), expected);
      }
    }
  }
}

TEST(XAttention, EqualBlocksAreTakenFromTheFirst) {
  const AttentionProblem problem(
      {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{128, 1280}}, .key_scale = 0},
      DType::kF32);
  const LayerQueries queries = queries_of(problem);
  PlanBuffer plan;
  // Eleven blocks of nearly the same mass: the last one is seen by a part of the groups.
  plan_of(queries, {.threshold = 0.5, .densest = 1}, plan);
  EXPECT_EQ(blocks_of_tile(Held(plan, plan.heads[0], queries.chunk), queries.chunk, 0),
            (std::set<int64_t>{0, 1, 2, 3, 4, 10}));
}

TEST(XAttention, ChunksEqualTheWholeAndThreadsChangeNothing) {
  const AttentionProblem problem(
      {.q_heads = 12, .kv_heads = 1, .head_dim = 64, .spans = {{1500, 0}}, .query_scale = 12},
      DType::kBF16);
  const Options options{.threshold = 0.8, .densest = 1};
  PlanBuffer whole;
  const Report report = plan_of(queries_of(problem), options, whole);
  EXPECT_LT(report.densest_head, 1);
  for (const int threads : {2, 3}) {
    PlanBuffer again;
    plan_of(queries_of(problem), options, again, threads);
    EXPECT_EQ(again.block_bits, whole.block_bits);
  }
  for (const auto& [first, last] : {std::pair{0, 640}, std::pair{640, 1500}}) {
    const LayerQueries chunk = queries_of(problem, first, last);
    PlanBuffer part;
    plan_of(chunk, options, part);
    for (size_t head = 0; head < 12; ++head) {
      const Held of_whole(whole, whole.heads[head], queries_of(problem).chunk);
      const Held of_part(part, part.heads[head], chunk.chunk);
      for (int64_t tile = 0; tile < chunk.chunk.tiles(); ++tile)
        EXPECT_EQ(blocks_of_tile(of_part, chunk.chunk, tile),
                  blocks_of_tile(of_whole, queries_of(problem).chunk, first / 128 + tile));
    }
  }
}

TEST(XAttention, HeadsMayHaveThresholdsOfTheirOwn) {
  const AttentionProblem problem(kShapes[0], DType::kF32);
  LayerQueries queries = queries_of(problem);
  queries.layer = 1;
  Options options{.head_thresholds = std::vector<float>(12, 1.0f), .densest = 1};
  options.head_thresholds[6 + 3] = 0.0f;
  PlanBuffer plan, none;
  plan_of(queries, options, plan);
  plan_of(queries, {.threshold = 0, .densest = 1}, none);
  for (size_t head = 0; head < 6; ++head) {
    const Held held(plan, plan.heads[head], queries.chunk);
    if (head == 3)
      EXPECT_TRUE(held == Held(none, none.heads[head], queries.chunk));
    else
      EXPECT_EQ(held.keys(699), 700);
  }
}

TEST(XAttention, ReportsWhatItScored) {
  const AttentionProblem problem(kShapes[1], DType::kF32);
  PlanBuffer plan;
  // Groups of 8 queries from position 645 on: the first sees 81 groups of keys, the last 118.
  EXPECT_EQ(plan_of(queries_of(problem), {}, plan).scored_pairs, 4u * 8 * 38 * (81 + 118) / 2);
}

TEST(XAttention, KernelsReadOnlyWhatIsPlanned) {
  const AttentionProblem problem(
      {.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{200, 1601}}, .query_scale = 16},
      DType::kF32);
  for (int64_t row = 0; row < 200; ++row)
    for (int head = 0; head < 4; ++head)
      for (int i = 0; i < 64; ++i) f32_query(problem, row, head)[i] += 40;
  for (int kv_head = 0; kv_head < 2; ++kv_head)
    for (int64_t key = 800; key < 810; ++key)
      std::fill_n(f32_row(problem, kv_head, 0, key), 64, 1.f);
  PlanBuffer plan;
  plan_of(queries_of(problem), {.threshold = 0.5, .densest = 1}, plan);
  EXPECT_TRUE(reads_only_what_is_planned(problem, plan));
}

}  // namespace
}  // namespace kvasir::prefill::xattention

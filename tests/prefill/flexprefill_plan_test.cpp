// Plans of FlexPrefill: against the definition in double precision, and run by the kernels.

#include <gtest/gtest.h>

#include <numeric>

#include "prefill/flexprefill/flexprefill.h"
#include "prefill/plan_problem.h"

namespace kvasir::prefill::flexprefill {
namespace {

using kernels::AttentionProblem;
using kernels::AttentionShape;

FlexReport plan_of(const LayerQueries& queries, const Options& options, PlanBuffer& plan,
                   int threads = 1) {
  ThreadPool pool(threads);
  Workspace workspace;
  return plan_layer({.pool = pool}, options, queries, workspace, plan);
}

TEST(FlexPrefill, DistanceOfDistributions) {
  const std::vector<float> p{0.5f, 0.25f, 0.25f, 0}, q{0, 0.5f, 0.25f, 0.25f};
  EXPECT_EQ(jensen_shannon_distance(p, p), 0);
  EXPECT_DOUBLE_EQ(jensen_shannon_distance(p, q), jensen_shannon_distance(q, p));
  EXPECT_GT(jensen_shannon_distance(p, q), 0.1);
  // Nothing in common: the divergence is ln 2. 0 * log 0 is 0.
  EXPECT_NEAR(jensen_shannon_distance(std::vector<float>{1, 0}, std::vector<float>{0, 1}),
              std::sqrt(std::log(2.0)), 1e-12);
}

// A head's masses of keys and distances in double precision.
struct Masses {
  std::vector<double> keys, distances;
};

Masses masses_of(const AttentionProblem& problem, const LayerQueries& queries, int head) {
  const Chunk& chunk = queries.chunk;
  const int kv_head = head / (problem.shape().q_heads / problem.shape().kv_heads);
  const auto length = static_cast<size_t>(chunk.length());
  Masses masses{std::vector<double>(length), std::vector<double>(length)};
  const int64_t count = std::min<int64_t>(chunk.rows, 128);
  for (int64_t row = chunk.rows - count; row < chunk.rows; ++row) {
    const int64_t position = chunk.query_offset + row;
    std::vector<double> shares;
    for (int64_t key = 0; key <= position; ++key) {
      double score = 0;
      for (int i = 0; i < problem.shape().head_dim; ++i)
        score += double{f32_query(problem, row, head)[i]} * f32_row(problem, kv_head, 0, key)[i];
      shares.push_back(std::exp(score * queries.scale));
    }
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (int64_t key = 0; key <= position; ++key) {
      const double share = shares[static_cast<size_t>(key)] / sum / static_cast<double>(count);
      masses.keys[static_cast<size_t>(key)] += share;
      masses.distances[static_cast<size_t>(position - key)] += share;
    }
  }
  return masses;
}

int64_t budget_of(std::vector<double> masses, double gamma) {
  std::ranges::sort(masses, std::greater<>());
  int64_t count = 1;
  double sum = 0;
  for (const double mass : masses) count += (sum += mass) <= gamma;
  return std::min(count / 128 + 1, (std::ssize(masses) + 127) / 128);
}

// The blocks of the highest sums, the forced one among them.
std::set<int64_t> highest_blocks(const std::vector<double>& masses, int64_t count, int64_t forced) {
  std::vector<double> sums(static_cast<size_t>((std::ssize(masses) + 127) / 128));
  for (size_t i = 0; i < masses.size(); ++i) sums[i / 128] += masses[i];
  sums[static_cast<size_t>(forced)] = INFINITY;
  std::vector<int64_t> order(sums.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(),
                           [&](int64_t i) { return sums[static_cast<size_t>(i)]; });
  return {order.begin(), order.begin() + count};
}

TEST(FlexPrefill, LinesAreThoseOfTheDefinition) {
  for (const AttentionShape& shape :
       {AttentionShape{
            .q_heads = 4, .kv_heads = 2, .head_dim = 32, .spans = {{600, 0}}, .query_scale = 6},
        AttentionShape{
            .q_heads = 2, .kv_heads = 1, .head_dim = 32, .spans = {{200, 900}}, .query_scale = 5},
        AttentionShape{
            .q_heads = 2, .kv_heads = 1, .head_dim = 32, .spans = {{40, 1093}}, .query_scale = 5}})
    for (const double gamma : {0.3, 0.6}) {
      const AttentionProblem problem(shape, DType::kF32);
      const LayerQueries queries = queries_of(problem);
      const Chunk& chunk = queries.chunk;
      PlanBuffer plan;
      const FlexReport report = plan_of(queries, {.gamma = gamma, .tau = 0, .densest = 1}, plan, 2);
      EXPECT_EQ(report.query_aware_heads, 0);
      for (int head = 0; head < shape.q_heads; ++head) {
        SCOPED_TRACE(testing::Message()
                     << "rows " << chunk.rows << " head " << head << " gamma " << gamma);
        Masses masses = masses_of(problem, queries, head);
        const int64_t blocks = (chunk.length() + 127) / 128;
        const auto columns = highest_blocks(masses.keys, budget_of(masses.keys, gamma), 0);
        const int64_t distance_count = budget_of(masses.distances, gamma);
        std::ranges::reverse(masses.distances);
        const auto groups = highest_blocks(masses.distances, distance_count, blocks - 1);
        const Held held(plan, plan.heads[static_cast<size_t>(head)], chunk);
        for (int64_t row = 0; row < chunk.rows; ++row)
          for (int64_t key = 0; key <= chunk.query_offset + row; ++key) {
            const int64_t position = chunk.tile_position(row / 128);
            bool expected = columns.contains(key / 128);
            for (const int64_t group : groups) {
              // Whole blocks of 64 keys.
              const int64_t first = position - (blocks - 1 - group) * 128;
              expected |= first + 128 > 0 && key / 64 >= std::max<int64_t>(first, 0) / 64 &&
                          key / 64 <= (first + 127) / 64;
            }
            ASSERT_EQ(held.times(row, key), expected ? 1 : 0) << row << ", " << key;
          }
      }
    }
}

TEST(FlexPrefill, QueryAwareHeadsTakeTheHighestOfTheMap) {
  const AttentionProblem problem(
      {.q_heads = 2, .kv_heads = 1, .head_dim = 32, .spans = {{700, 128}}, .query_scale = 40},
      DType::kF32);
  const LayerQueries queries = queries_of(problem);
  const Chunk& chunk = queries.chunk;
  PlanBuffer plan;
  EXPECT_EQ(plan_of(queries, {.gamma = 0.6, .tau = 2, .densest = 1}, plan).query_aware_heads, 2);
  const int64_t blocks = (chunk.length() + 127) / 128;
  for (int head = 0; head < 2; ++head) {
    const Held held(plan, plan.heads[static_cast<size_t>(head)], chunk);
    double all = 0, taken = 0, lowest = 2, highest_left = 0;
    for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
      const int64_t end = chunk.tile_end(tile), position = chunk.tile_position(tile);
      std::vector<double> shares;
      for (int64_t block = 0; block * 128 < end; ++block) {
        const int64_t last = std::min(chunk.length(), block * 128 + 128);
        double score = 0;
        for (int i = 0; i < 32; ++i) {
          double q = 0, k = 0;
          for (int64_t p = position; p < end; ++p)
            q += f32_query(problem, p - chunk.query_offset, head)[i];
          for (int64_t p = block * 128; p < last; ++p) k += f32_row(problem, 0, 0, p)[i];
          score +=
              q / static_cast<double>(end - position) * k / static_cast<double>(last - block * 128);
        }
        shares.push_back(std::exp(score * queries.scale));
      }
      const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
      const auto kept = blocks_of_tile(held, chunk, tile);
      for (int64_t block = 0; block < std::ssize(shares); ++block) {
        const double share = shares[static_cast<size_t>(block)] / sum;
        all += share;
        const bool is_forced = block == 0 || block * 128 == position;
        if (is_forced) {
          ASSERT_TRUE(kept.contains(block));
          // Taken by the map or not, which does not show.
          continue;
        }
        if (kept.contains(block)) {
          taken += share;
          lowest = std::min(lowest, share);
        } else {
          highest_left = std::max(highest_left, share);
        }
      }
    }
    EXPECT_LT(highest_left, 1);
    EXPECT_GE(lowest, highest_left - 1e-4);
    EXPECT_LT(taken, 0.6 * all + lowest);
    EXPECT_GT(blocks, 2);
  }
}

TEST(FlexPrefill, GammaOneIsDenseAndNoneIsSinkAndDiagonal) {
  for (const double tau : {0.0, 2.0})
    for (const auto& [rows, offset] :
         {std::pair{500, 0}, std::pair{300, 401}, std::pair{7, 640}, std::pair{90, 0}}) {
      const AttentionProblem problem(
          {.q_heads = 2, .kv_heads = 1, .head_dim = 32, .spans = {{rows, offset}}}, DType::kBF16);
      const LayerQueries queries = queries_of(problem);
      PlanBuffer all, fewest;
      plan_of(queries, {.gamma = 1, .tau = tau, .densest = 1}, all);
      EXPECT_TRUE(is_dense(all, queries.chunk));
      plan_of(queries, {.gamma = 0, .tau = tau, .densest = 1}, fewest);
      if (queries.chunk.length() <= 256) {
        EXPECT_TRUE(is_dense(fewest, queries.chunk)) << "no more than two blocks";
        continue;
      }
      for (const auto& program : fewest.heads) {
        const Held held(fewest, program, queries.chunk);
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t position = queries.chunk.tile_position(row / 128);
          for (int64_t key = 0; key <= offset + row; ++key)
            ASSERT_EQ(held.is_held(row, key), key < 128 || key >= position / 64 * 64);
        }
      }
    }
}

// Means tell where the attention goes where all keys of a block are alike, and do not where one
// key takes it all.
TEST(FlexPrefill, TellsHeadsApart) {
  const AttentionProblem problem(
      {.q_heads = 2, .kv_heads = 2, .head_dim = 64, .spans = {{1024, 0}}, .key_scale = 0.01f},
      DType::kF32);
  for (int64_t row = 0; row < 1024; ++row)
    for (int head = 0; head < 2; ++head) std::fill_n(f32_query(problem, row, head), 64, 1.0f);
  for (int64_t key = 256; key < 384; ++key) std::fill_n(f32_row(problem, 0, 0, key), 64, 0.5f);
  std::fill_n(f32_row(problem, 1, 0, 300), 64, 1.5f);
  const LayerQueries queries = queries_of(problem);
  PlanBuffer plan;
  const FlexReport report = plan_of(queries, {.min_blocks = 2, .densest = 1}, plan);
  EXPECT_EQ(report.query_aware_heads, 1);
  for (size_t head = 0; head < 2; ++head) {
    const Held held(plan, plan.heads[head], queries.chunk);
    for (int64_t row = 300; row < 1024; ++row) ASSERT_TRUE(held.is_held(row, 300)) << row;
  }
  // One key is worth one block, and that is the first one: the published method's limit.
  PlanBuffer least;
  plan_of(queries, {.densest = 1}, least);
  EXPECT_FALSE(Held(least, least.heads[1], queries.chunk).is_held(1023, 300));
}

TEST(FlexPrefill, LastChunkHasTheLinesOfTheWholeAndThreadsChangeNothing) {
  const AttentionProblem problem(
      {.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{1500, 0}}, .query_scale = 3},
      DType::kBF16);
  const LayerQueries all = queries_of(problem), last = queries_of(problem, 896, 1500);
  const Options options{.gamma = 0.5, .tau = 0, .densest = 1};
  PlanBuffer whole, part;
  plan_of(all, options, whole);
  plan_of(last, options, part);
  for (size_t head = 0; head < 4; ++head) {
    const Held of_whole(whole, whole.heads[head], all.chunk);
    const Held of_part(part, part.heads[head], last.chunk);
    for (int64_t row = 0; row < 604; ++row)
      for (int64_t key = 0; key < 1500; ++key)
        ASSERT_EQ(of_part.times(row, key), of_whole.times(896 + row, key));
  }
  for (const double tau : {0.0, 2.0}) {
    PlanBuffer one;
    plan_of(all, {.gamma = 0.7, .tau = tau}, one);
    for (const int threads : {2, 3}) {
      PlanBuffer again;
      plan_of(all, {.gamma = 0.7, .tau = tau}, again, threads);
      EXPECT_EQ(again.block_bits, one.block_bits);
    }
  }
}

TEST(FlexPrefill, KernelsReadOnlyWhatIsPlanned) {
  const AttentionProblem problem(
      {.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{200, 1601}}, .query_scale = 0.1f},
      DType::kF32);
  for (int64_t row = 0; row < 200; ++row)
    for (int head = 0; head < 4; ++head)
      for (int i = 0; i < 64; ++i) f32_query(problem, row, head)[i] += 2;
  for (int kv_head = 0; kv_head < 2; ++kv_head)
    for (int64_t key = 800; key < 803; ++key)
      std::fill_n(f32_row(problem, kv_head, 0, key), 64, 2.0f);
  PlanBuffer plan;
  plan_of(queries_of(problem), {.gamma = 0.5, .tau = 0, .densest = 1}, plan);
  EXPECT_TRUE(reads_only_what_is_planned(problem, plan));
}

}  // namespace
}  // namespace kvasir::prefill::flexprefill

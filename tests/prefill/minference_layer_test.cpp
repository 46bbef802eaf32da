// Block-sparse heads and whole layers, on random and on planted keys.

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "prefill/held.h"
#include "prefill/minference/minference.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadConfig;
using formats::HeadPattern;
using formats::HeadPatternKind;

// One layer's queries and keys in f32; what is behind the last key is NaN.
struct Layer {
  Layer(Chunk chunk, int q_heads, int kv_heads, int head_dim, uint32_t seed)
      : chunk(chunk), q_heads(q_heads), kv_heads(kv_heads), head_dim(head_dim), random(seed) {
    q.resize(static_cast<size_t>(chunk.rows * q_heads * head_dim));
    const int64_t pages = (chunk.length() + 63) / 64;
    pool.assign(static_cast<size_t>(pages * kv_heads * 2 * 64 * head_dim), NAN);
    table.resize(static_cast<size_t>(pages));
    std::iota(table.begin(), table.end(), 0u);
    std::shuffle(table.begin(), table.end(), random);
    for (float& value : q) value = normal(random);
    for (int head = 0; head < kv_heads; ++head)
      for (int64_t position = 0; position < chunk.length(); ++position)
        for (int i = 0; i < head_dim; ++i) key(position, head)[i] = normal(random);
  }
  float* query(int64_t row, int head) { return q.data() + (row * q_heads + head) * head_dim; }
  float* key(int64_t position, int head) {
    return pool.data() + ((table[static_cast<size_t>(position / 64)] * kv_heads + head) * 2 * 64 +
                          position % 64) *
                             head_dim;
  }
  Report plan(const HeadConfig& config, const Options& options, PlanBuffer& plan, int threads = 1) {
    ThreadPool workers(threads);
    Workspace workspace;
    return plan_layer({.pool = workers}, options, config,
                      {.layer = 0,
                       .chunk = chunk,
                       .q = q.data(),
                       .q_row_stride = int64_t{q_heads} * head_dim,
                       .q_heads = q_heads,
                       .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
                       .pages = {.base = reinterpret_cast<std::byte*>(pool.data()),
                                 .page_bytes = int64_t{kv_heads} * 2 * 64 * head_dim * 4,
                                 .dtype = DType::kF32,
                                 .kv_heads = kv_heads,
                                 .head_dim = head_dim},
                       .page_table = table.data()},
                      workspace, plan);
  }

  Chunk chunk;
  int q_heads, kv_heads, head_dim;
  std::mt19937 random;
  std::normal_distribution<float> normal;
  std::vector<float> q, pool;
  std::vector<uint32_t> table;
};

HeadConfig every_head(int heads, const HeadPattern& pattern) {
  HeadConfig config;
  config.layers.resize(1);
  for (int head = 0; head < heads; ++head) config.layers[0][head] = pattern;
  return config;
}

constexpr HeadPattern kBlockSparseHead{HeadPatternKind::kBlockSparse, 0, 0, {}};

TEST(MinferenceBlockSparse, KeepsTheBestBlocksOfEachTile) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const Chunk chunk{.query_offset = seed % 2 ? static_cast<int64_t>(random() % 300) : 64 * 3,
                      .rows = 1 + static_cast<int64_t>(random() % 500),
                      .row_tile = seed % 3 ? 64 : 128};
    Layer layer(chunk, 4, 2, 40, seed);
    Options options;
    options.blocks = {.blocks = 1 + static_cast<int64_t>(random() % 6),
                      .force_diagonal = seed % 4 < 2,
                      .force_sink = seed % 8 < 4};
    PlanBuffer plan;
    layer.plan(every_head(4, kBlockSparseHead), options, plan);
    for (int head = 0; head < 4; ++head) {
      const Held held(plan, plan.heads[static_cast<size_t>(head)], chunk);
      for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
        const int64_t position = chunk.tile_position(tile), end = chunk.tile_end(tile);
        const int64_t blocks = (end + 63) / 64;
        std::vector<double> products(static_cast<size_t>(blocks));
        std::set<int64_t> kept, forced;
        for (int64_t block = 0; block < blocks; ++block) {
          const int64_t last = std::min(block * 64 + 64, chunk.length());
          for (int i = 0; i < 40; ++i) {
            double q = 0, k = 0;
            for (int64_t p = position; p < end; ++p)
              q += layer.query(p - chunk.query_offset, head)[i];
            for (int64_t p = block * 64; p < last; ++p) k += layer.key(p, head / 2)[i];
            products[static_cast<size_t>(block)] += q / static_cast<double>(end - position) * k /
                                                    static_cast<double>(last - block * 64);
          }
          if (held.is_held(end - 1 - chunk.query_offset, block * 64)) kept.insert(block);
          if ((options.blocks.force_diagonal && last > position) ||
              (options.blocks.force_sink && block == 0))
            forced.insert(block);
        }
        ASSERT_EQ(std::ssize(kept), std::min(blocks, options.blocks.blocks));
        for (const int64_t block : kept) {
          if (forced.contains(block)) continue;
          for (int64_t other = 0; other < blocks; ++other) {
            if (kept.contains(other)) continue;
            ASSERT_FALSE(forced.contains(other));
            ASSERT_GE(products[static_cast<size_t>(block)],
                      products[static_cast<size_t>(other)] - 1e-5);
          }
        }
      }
    }
  }
}

TEST(MinferenceBlockSparse, EqualBlocksAreTakenFromTheFirst) {
  Layer layer({.query_offset = 0, .rows = 320}, 1, 1, 8, 1);
  std::ranges::fill(layer.q, 1.0f);
  for (int64_t position = 0; position < 320; ++position)
    std::fill_n(layer.key(position, 0), 8, position / 64 == 3 ? 2.0f : 1.0f);
  Options options;
  options.blocks = {.blocks = 2, .force_diagonal = false, .force_sink = false};
  PlanBuffer plan;
  layer.plan(every_head(1, kBlockSparseHead), options, plan);
  EXPECT_EQ(plan.block_bits, (std::vector<uint32_t>{0b1, 0b11, 0b11, 0b1001, 0b1001}));
}

TEST(MinferenceLayer, AShapeIsFirstAndLastPositions) {
  const Chunk chunk{.query_offset = 37, .rows = 150};
  Layer layer(chunk, 1, 1, 8, 2);
  for (const auto& [init, local] : {std::pair{10, 20}, std::pair{0, 7}, std::pair{5, 1000},
                                    std::pair{500, 3}, std::pair{4, 0}}) {
    PlanBuffer plan;
    const Report report =
        layer.plan(every_head(1, {HeadPatternKind::kAShape, init, local, {}}), {}, plan);
    EXPECT_EQ(report.scored_pairs, 0u);
    const Held held(plan, plan.heads[0], chunk);
    for (int64_t row = 0; row < chunk.rows; ++row)
      for (int64_t key = 0; key < chunk.length(); ++key) {
        const int64_t offset = chunk.query_offset + row - key;
        ASSERT_EQ(held.times(row, key), offset >= 0 && (key < init || offset < std::max(local, 1)));
      }
  }
}

// Columns that every query looks at, and diagonals that every query follows.
TEST(MinferenceLayer, FindsPlantedColumnsAndDiagonals) {
  const Chunk chunk{.query_offset = 500, .rows = 1500};
  constexpr int kDim = 64;
  Layer layer(chunk, 2, 2, kDim, 3);
  const std::set<int64_t> columns{77, 403, 404, 911, 1350};
  const std::set<int64_t> offsets{210, 211, 640, 1217};
  for (const int64_t column : columns)
    for (int i = 0; i < kDim; ++i) layer.key(column, 0)[i] = 3;
  for (int64_t row = 0; row < chunk.rows; ++row) {
    for (int i = 0; i < kDim; ++i) layer.query(row, 0)[i] += 1;
    std::fill_n(layer.query(row, 1), kDim, 0.0f);
    for (const int64_t offset : offsets)
      if (offset <= chunk.query_offset + row)
        for (int i = 0; i < kDim; ++i)
          layer.query(row, 1)[i] += layer.key(chunk.query_offset + row - offset, 1)[i];
  }
  for (const auto index : {IndexMode::kRelative, IndexMode::kReference}) {
    PlanBuffer plan;
    const Report report = layer.plan(every_head(2, {HeadPatternKind::kVerticalSlash, 35, 104, {}}),
                                     {.index = index, .densest = 1}, plan);
    EXPECT_EQ(report.dense_heads, 0);
    EXPECT_EQ(report.scored_pairs, 2u * 2 * 64 * 2000);
    EXPECT_GT(report.densest_head, 0.1);
    EXPECT_LT(report.densest_head, 0.7);
    const Held first(plan, plan.heads[0], chunk), second(plan, plan.heads[1], chunk);
    EXPECT_EQ(first.most(), 1);
    EXPECT_EQ(second.most(), 1);
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const int64_t position = chunk.query_offset + row;
      for (const int64_t column : columns)
        if (column <= position) {
          ASSERT_TRUE(first.is_held(row, column)) << row << ", " << column;
        }
      for (const int64_t offset : offsets)
        if (offset <= position) {
          ASSERT_TRUE(second.is_held(row, position - offset)) << row << " - " << offset;
        }
    }
  }
}

// Budgets by mass grow with it, find what is planted and need no head configuration.
TEST(MinferenceLayer, BudgetsByMassFollowThePrompt) {
  const Chunk chunk{.query_offset = 500, .rows = 1500};
  Layer layer(chunk, 1, 1, 64, 9);
  for (const int64_t column : {403, 911})
    for (int i = 0; i < 64; ++i) layer.key(column, 0)[i] = 3;
  for (int64_t row = 0; row < chunk.rows; ++row)
    for (int i = 0; i < 64; ++i) layer.query(row, 0)[i] += 1;
  int64_t before = 0;
  for (const double mass : {0.01, 0.3, 0.8, 1.0}) {
    PlanBuffer plan;
    layer.plan({}, {.mass = mass, .densest = 1}, plan);
    const Held held(plan, plan.heads[0], chunk);
    EXPECT_EQ(held.most(), 1);
    int64_t pairs = 0;
    for (int64_t row = 0; row < chunk.rows; ++row) pairs += held.keys(row);
    EXPECT_GT(pairs, before) << mass;
    before = pairs;
    for (int64_t row = 500; mass > 0.7 && row < chunk.rows; ++row)
      ASSERT_TRUE(held.is_held(row, 403) && held.is_held(row, 911)) << row;
  }
  // Every offset: dense.
  EXPECT_EQ(before, chunk.rows * 501 + chunk.rows * (chunk.rows - 1) / 2);
}

// What the last 64 queries do not look at is not found, however much earlier ones do: the published
// method's limit, which a change must not hide.
TEST(MinferenceLayer, MissesWhatTheLastQueriesDoNotLookAt) {
  const Chunk chunk{.query_offset = 0, .rows = 1500};
  Layer layer(chunk, 1, 1, 64, 4);
  for (int i = 0; i < 64; ++i) layer.key(600, 0)[i] = 3;
  for (int64_t row = 0; row < chunk.rows; ++row)
    for (int i = 0; i < 64; ++i) layer.query(row, 0)[i] += row < 1400 ? 1.0f : -1.0f;
  PlanBuffer plan;
  layer.plan(every_head(1, {HeadPatternKind::kVerticalSlash, 40, 100, {}}), {}, plan);
  EXPECT_FALSE(Held(plan, plan.heads[0], chunk).is_held(1200, 600));
}

TEST(MinferenceLayer, BudgetsBeyondTheLengthAreDense) {
  for (const Chunk& chunk :
       {Chunk{.query_offset = 0, .rows = 1}, Chunk{.query_offset = 90, .rows = 1},
        Chunk{.query_offset = 0, .rows = 40}, Chunk{.query_offset = 300, .rows = 200}}) {
    Layer layer(chunk, 1, 1, 16, 5);
    for (const auto index : {IndexMode::kRelative, IndexMode::kReference})
      for (const double densest : {0.5, 1.0}) {
        PlanBuffer plan;
        // No entry: the default budgets, which exceed every length here.
        const Report report = layer.plan({}, {.index = index, .densest = densest}, plan);
        EXPECT_EQ(report.dense_heads, densest < 1 ? 1 : 0);
        const Held held(plan, plan.heads[0], chunk);
        EXPECT_EQ(held.most(), 1);
        for (int64_t row = 0; row < chunk.rows; ++row)
          ASSERT_EQ(held.keys(row), chunk.query_offset + row + 1);
      }
  }
}

TEST(MinferenceLayer, ThreadsAndHeadsBesideChangeNothing) {
  const Chunk chunk{.query_offset = 801, .rows = 700, .row_tile = 128};
  Layer layer(chunk, 6, 2, 32, 6);
  HeadConfig config;
  config.layers.resize(1);
  config.layers[0] = {{0, {HeadPatternKind::kVerticalSlash, 50, 120, {}}},
                      {1, kBlockSparseHead},
                      {2, {HeadPatternKind::kVerticalSlash, 90, 110, {}}},
                      {3, {HeadPatternKind::kAShape, 30, 100, {}}},
                      {4, {HeadPatternKind::kVerticalSlash, 60, 100, {}}},
                      {5, {HeadPatternKind::kVerticalSlash, 50, 120, {}}}};
  PlanBuffer plan;
  layer.plan(config, {}, plan);
  ASSERT_EQ(plan.heads.size(), 6u);
  for (const int threads : {2, 3}) {
    PlanBuffer again;
    layer.plan(config, {}, again, threads);
    for (size_t head = 0; head < 6; ++head)
      EXPECT_TRUE(Held(again, again.heads[head], chunk) == Held(plan, plan.heads[head], chunk));
    EXPECT_EQ(again.columns, plan.columns);
  }
  // Head 5 alone among heads of another pattern.
  for (int head = 0; head < 5; ++head)
    config.layers[0][head] = {HeadPatternKind::kAShape, 1, 1, {}};
  PlanBuffer alone;
  layer.plan(config, {}, alone);
  EXPECT_TRUE(Held(alone, alone.heads[5], chunk) == Held(plan, plan.heads[5], chunk));
  EXPECT_FALSE(Held(alone, alone.heads[0], chunk) == Held(plan, plan.heads[0], chunk));
}

}  // namespace
}  // namespace kvasir::prefill::minference

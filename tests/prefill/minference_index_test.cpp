#include <gtest/gtest.h>

#include <random>
#include <set>

#include "prefill/held.h"
#include "prefill/minference/vertical_slash_index.h"

namespace kvasir::prefill::minference {
namespace {

struct Case {
  Chunk chunk;
  Selection selection;
};

// Index lists of every texture: single entries, runs, nearly all of them.
std::vector<int32_t> random_indices(std::mt19937& random, int64_t length) {
  std::set<int32_t> indices;
  const auto groups = random() % 12;
  for (uint32_t i = 0; i < groups; ++i) {
    const auto first = static_cast<int32_t>(random() % length);
    const auto count = static_cast<int32_t>(random() % 3 ? 1 : 1 + random() % 150);
    for (int32_t j = first; j < std::min<int64_t>(first + count, length); ++j) indices.insert(j);
  }
  return {indices.begin(), indices.end()};
}

Case random_case(std::mt19937& random, int32_t row_tile) {
  Case result;
  result.chunk.row_tile = row_tile;
  result.chunk.rows = 1 + random() % (random() % 2 ? 20 : 300);
  result.chunk.query_offset = random() % 3 ? random() % 400 : 0;
  result.selection.columns = random_indices(random, result.chunk.length());
  result.selection.offsets = random_indices(random, result.chunk.length());
  if (result.selection.offsets.empty() || result.selection.offsets[0] != 0)
    result.selection.offsets.insert(result.selection.offsets.begin(), 0);
  return result;
}

void expect_cover(const Case& problem, const Held& held) {
  const Chunk& chunk = problem.chunk;
  for (int64_t row = 0; row < chunk.rows; ++row) {
    const int64_t position = chunk.query_offset + row;
    for (const int32_t column : problem.selection.columns)
      if (column <= position) {
        ASSERT_TRUE(held.is_held(row, column)) << row << ", " << column;
      }
    for (const int32_t offset : problem.selection.offsets)
      if (offset <= position) {
        ASSERT_TRUE(held.is_held(row, position - offset)) << row << " - " << offset;
      }
  }
}

// The published merge, step by step: two cursors over both lists. Offsets descend; a tile without a
// live one has nothing, where the published code reads behind the list.
struct Merged {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  std::vector<int32_t> columns;
};
Merged published_merge(const std::vector<int32_t>& columns, const std::vector<int32_t>& ascending,
                       int64_t end) {
  const std::vector<int32_t> offsets(ascending.rbegin(), ascending.rend());
  Merged merged;
  size_t next_offset = 0, next_column = 0;
  while (next_offset < offsets.size() && offsets[next_offset] >= end) ++next_offset;
  if (next_offset == offsets.size()) return merged;
  int64_t square = std::max<int64_t>(end - offsets[next_offset++], 64);
  int64_t start = square - 64, stop = square;
  while (true) {
    const int64_t column =
        next_column < columns.size() ? columns[next_column] : std::numeric_limits<int64_t>::max();
    if (column < stop) {
      if (column < start) merged.columns.push_back(static_cast<int32_t>(column));
      ++next_column;
      continue;
    }
    if (next_offset == offsets.size()) break;
    square = std::max<int64_t>(end - offsets[next_offset++], 64);
    if (square > stop + 64) {
      merged.ranges.emplace_back(start, stop);
      start = square - 64;
      stop = square;
    } else if (square > stop) {
      stop += 64;
    }
  }
  merged.ranges.emplace_back(start, stop);
  return merged;
}

int64_t pairs_in_tiles(const PlanBuffer& plan, const kernels::HeadProgram& program,
                       const Chunk& chunk) {
  // The last row of a tile sees all that the tile computes.
  const Held held(plan, program, chunk);
  int64_t pairs = 0;
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
    const int64_t end = chunk.tile_end(tile);
    pairs += held.keys(end - 1 - chunk.query_offset) * (end - chunk.tile_position(tile));
  }
  return pairs;
}

TEST(MinferenceIndex, RelativeCoversEachPairOnceInThreeThousandRandomCases) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const Case problem = random_case(random, seed % 2 ? 64 : 128);
    PlanBuffer plan;
    const ProgramSize size = append_relative_index(problem.selection, problem.chunk, plan);
    plan.end_head(0);
    const Held held(plan, plan.heads[0], problem.chunk);
    ASSERT_LE(held.most(), 1);
    expect_cover(problem, held);
    ASSERT_EQ(size.pairs, pairs_in_tiles(plan, plan.heads[0], problem.chunk));
    // What the rule of attention_plan.h asks of the order, and the bound on memory.
    ASSERT_LE(plan.segments.size(), problem.selection.offsets.size() + 1);
    ASSERT_LE(plan.columns.size(), problem.selection.columns.size());
    for (size_t i = 0; i < plan.segments.size(); ++i) {
      const auto& segment = plan.segments[i];
      if (segment.kind == kernels::SegmentKind::kColumns) {
        ASSERT_EQ(i + 1, plan.segments.size());
      } else if (i > 0) {
        ASSERT_GT(segment.first, plan.segments[i - 1].first + plan.segments[i - 1].count);
      }
    }
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(MinferenceIndex, RelativeHoldsNothingBesideItsSquaresAndColumns) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const Case problem = random_case(random, 64);
    const Chunk& chunk = problem.chunk;
    PlanBuffer plan;
    append_relative_index(problem.selection, chunk, plan);
    plan.end_head(0);
    const Held held(plan, plan.heads[0], chunk);
    const std::set<int32_t> columns(problem.selection.columns.begin(),
                                    problem.selection.columns.end());
    for (int64_t row = 0; row < chunk.rows; ++row) {
      const int64_t position = chunk.tile_position(row / 64);
      for (int64_t key = 0; key <= chunk.query_offset + row; ++key) {
        const bool in_square = std::ranges::any_of(problem.selection.offsets, [&](int32_t offset) {
          return key >= position - offset && key < position - offset + 64;
        });
        ASSERT_EQ(held.is_held(row, key), in_square || columns.contains(static_cast<int>(key)));
      }
    }
  }
}

TEST(MinferenceIndex, ReferenceEqualsThePublishedMergeInThreeThousandRandomCases) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    Case problem = random_case(random, 64);
    const bool is_cover = seed % 4 != 0;
    auto& offsets = problem.selection.offsets;
    if (!is_cover) {  // lists that selection never makes: offsets repeat, 0 is missing
      offsets.erase(offsets.begin());
      if (!offsets.empty()) offsets.insert(offsets.begin(), offsets[0]);
    }
    PlanBuffer plan;
    const ProgramSize size = append_reference_index(problem.selection, problem.chunk, plan);
    plan.end_head(0);
    const Held held(plan, plan.heads[0], problem.chunk);
    ASSERT_LE(held.most(), 1);
    if (is_cover) expect_cover(problem, held);
    ASSERT_EQ(size.pairs, pairs_in_tiles(plan, plan.heads[0], problem.chunk));
    size_t segment = 0;
    for (int64_t tile = 0; tile < problem.chunk.tiles(); ++tile) {
      const int64_t position = problem.chunk.tile_position(tile);
      const Merged merged = published_merge(problem.selection.columns, offsets, position + 64);
      for (const auto& [first, last] : merged.ranges) {
        const auto& found = plan.segments[segment++];
        ASSERT_EQ(found.kind, kernels::SegmentKind::kAbsolute);
        ASSERT_EQ(found.tile_begin, tile);
        ASSERT_EQ(found.tile_end, tile + 1);
        ASSERT_EQ(found.first, first);
        ASSERT_EQ(found.first + found.count, last);
      }
      if (merged.columns.empty()) continue;
      const auto& found = plan.segments[segment++];
      ASSERT_EQ(found.kind, kernels::SegmentKind::kColumns);
      const auto begin = plan.columns.begin() + found.first;
      ASSERT_EQ(std::vector<int32_t>(begin, begin + found.count), merged.columns);
      if (is_cover) {
        ASSERT_LT(merged.columns.back(), position);
      }
    }
    ASSERT_EQ(segment, plan.segments.size());
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(MinferenceIndex, EverythingChosenIsDense) {
  const Chunk chunk{.query_offset = 70, .rows = 200};
  Selection all;
  for (int32_t i = 0; i < chunk.length(); ++i) all.offsets.push_back(i);
  for (const bool is_relative : {true, false}) {
    PlanBuffer plan;
    const ProgramSize size = is_relative ? append_relative_index(all, chunk, plan)
                                         : append_reference_index(all, chunk, plan);
    plan.end_head(0);
    EXPECT_EQ(size.pairs, size.dense_pairs);
    const Held held(plan, plan.heads[0], chunk);
    for (int64_t row = 0; row < chunk.rows; ++row)
      EXPECT_EQ(held.keys(row), chunk.query_offset + row + 1);
  }
}

TEST(MinferenceIndex, RelativeRunsAreTheUnionOfTheirSquares) {
  EXPECT_EQ(relative_runs(std::vector<int32_t>{0, 1, 2, 66, 500}, 64),
            (std::vector<RelativeRun>{{-500, 64}, {-66, 130}}));
  EXPECT_EQ(relative_runs(std::vector<int32_t>{0, 65}, 64),
            (std::vector<RelativeRun>{{-65, 64}, {0, 64}}));
  EXPECT_EQ(relative_runs(std::vector<int32_t>{0, 128}, 128),
            (std::vector<RelativeRun>{{-128, 256}}));
}

TEST(MinferenceIndex, MemoryDoesNotGrowWithTheChunk) {
  Selection selection;
  for (int32_t i = 0; i < 1000; ++i) selection.columns.push_back(i * 900);
  for (int32_t i = 0; i < 6096; ++i) selection.offsets.push_back(i * 160);
  PlanBuffer plan;
  append_relative_index(selection, {.query_offset = 967232, .rows = 32768}, plan);
  const size_t bytes =
      plan.segments.size() * sizeof(kernels::PlanSegment) + plan.columns.size() * sizeof(int32_t);
  EXPECT_LE(bytes, 6096 * sizeof(kernels::PlanSegment) + 1000 * sizeof(int32_t) + 64);
}

}  // namespace
}  // namespace kvasir::prefill::minference

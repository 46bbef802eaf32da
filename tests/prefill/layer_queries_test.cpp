#include "prefill/layer_queries.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kvasir::prefill {
namespace {

TEST(Workspace, HandsOutApartAndAgain) {
  Workspace workspace;
  std::byte* first = nullptr;
  for (int round = 0; round < 3; ++round) {
    workspace.clear();
    std::vector<std::span<int>> arrays;
    for (const int64_t count : {1, 17, 0, 1000, 3, 100000}) {
      arrays.push_back(workspace.array<int>(count));
      ASSERT_EQ(std::ssize(arrays.back()), count);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(arrays.back().data()) % 64, 0u);
      std::ranges::fill(arrays.back(), static_cast<int>(arrays.size()));
    }
    for (size_t i = 0; i < arrays.size(); ++i)
      for (const int value : arrays[i]) ASSERT_EQ(value, static_cast<int>(i + 1));
    const auto* at = reinterpret_cast<std::byte*>(arrays[0].data());
    if (round == 1) first = const_cast<std::byte*>(at);
    if (round == 2) {
      EXPECT_EQ(at, first) << "a round like the last needs no memory";
    }
  }
}

TEST(Chunk, TilesCountFromItsFirstQuery) {
  const Chunk chunk{.query_offset = 100, .rows = 130, .row_tile = 128};
  EXPECT_EQ(chunk.length(), 230);
  EXPECT_EQ(chunk.tiles(), 2);
  EXPECT_EQ(chunk.tile_position(1), 228);
  EXPECT_EQ(chunk.tile_end(0), 228);
  EXPECT_EQ(chunk.tile_end(1), 230);
}

}  // namespace
}  // namespace kvasir::prefill

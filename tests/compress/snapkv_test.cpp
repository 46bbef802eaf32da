// Which entries stay: against a scalar definition, and the budgets of PyramidKV's layers.

#include "compress/snapkv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace kvasir::compress {
namespace {

std::vector<int32_t> reference(const std::vector<float>& scores, int64_t window, int64_t kernel,
                               int64_t count) {
  const auto ranked = static_cast<int64_t>(scores.size());
  std::vector<std::pair<float, int64_t>> order;
  for (int64_t j = 0; j < ranked; ++j) {
    float sum = 0;
    for (int64_t d = -(kernel / 2); d <= kernel / 2; ++d)
      if (j + d >= 0 && j + d < ranked) sum += scores[static_cast<size_t>(j + d)];
    order.emplace_back(-sum / static_cast<float>(kernel), j);
  }
  std::ranges::sort(order);
  std::vector<int32_t> kept;
  for (int64_t i = 0; i < count - window; ++i)
    kept.push_back(static_cast<int32_t>(order[static_cast<size_t>(i)].second));
  for (int64_t i = 0; i < window; ++i) kept.push_back(static_cast<int32_t>(ranked + i));
  std::ranges::sort(kept);
  return kept;
}

TEST(SnapKv, KeepsTheHighestAverages) {
  std::mt19937 random(7);
  for (const int64_t ranked : {1, 2, 5, 64, 300, 1000})
    for (const int64_t kernel : {1, 3, 5, 7})
      for (const int64_t best : {int64_t{1}, (ranked + 1) / 2, ranked}) {
        // Few values, so that there are ties.
        std::vector<float> scores(static_cast<size_t>(ranked));
        for (float& score : scores) score = static_cast<float>(random() % 8);
        std::vector<int32_t> kept(static_cast<size_t>(best + 4));
        keep_highest(scores, 4, kernel, kept);
        EXPECT_EQ(kept, reference(scores, 4, kernel, best + 4)) << ranked << " " << kernel;
      }
}

TEST(SnapKv, EqualScoresGoToLowPositionsButForTheEdges) {
  std::vector<float> scores(50, 1);
  std::vector<int32_t> kept(12);
  keep_highest(scores, 2, 5, kept);
  EXPECT_EQ(kept, (std::vector<int32_t>{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 50, 51}));
}

// The example of the released code's rule: 32 layers, 4,096 entries, window 32, beta 20.
TEST(PyramidKv, BudgetsFallFromLayerToLayer) {
  const auto budget = [](int layer, int64_t tokens) {
    return pyramid_capacity(layer, 32, tokens, 4096, 32, 20) - 32;
  };
  EXPECT_EQ(budget(0, 100000), 7925);
  EXPECT_EQ(budget(1, 100000), 7925 - 249);
  EXPECT_EQ(budget(31, 100000), 206);
  int64_t sum = 0;
  for (int layer = 0; layer < 32; ++layer) {
    sum += budget(layer, 100000);
    if (layer > 0) {
      EXPECT_LE(budget(layer, 100000), budget(layer - 1, 100000));
    }
  }
  EXPECT_GE(sum, 32 * 4064);
  EXPECT_LE(sum - 32 * 4064, 32 * 31 / 2);
  EXPECT_EQ(budget(0, 8127), 4064) << "short prompts: the same in all layers";
  EXPECT_EQ(budget(0, 8130), 7925);
  // beta 1 asks for more than there is.
  EXPECT_EQ(pyramid_capacity(0, 4, 150, 110, 10, 100), 110);
}

TEST(Compressor, OptionsMustFitOneAnother) {
  EXPECT_FALSE(make_compressor({"snapkv", {{"capacity", "32"}}}, {.layers = 2}).ok());
  EXPECT_TRUE(make_compressor({"snapkv", {{"capacity", "33"}}}, {.layers = 2}).value());
  EXPECT_FALSE(make_compressor({"plain", {}}, {.layers = 2}).value());
}

TEST(Compressor, LayersWithAWindowKeepWhatTheySee) {
  const auto snapkv =
      make_compressor({"snapkv", {{"capacity", "100"}}}, {.layers = 2, .windows = {0, 40}}).value();
  EXPECT_EQ(snapkv->kept(0, 500, 500), 100);
  EXPECT_EQ(snapkv->kept(1, 500, 500), 40);
  EXPECT_EQ(snapkv->kept(1, 30, 30), 30);
}

}  // namespace
}  // namespace kvasir::compress

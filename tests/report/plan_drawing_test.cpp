#include "report/plan_drawing.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/random_plan.h"
#include "report/plan_map.h"
#include "report/xml_check.h"

namespace kvasir::report {
namespace {

using kernels::AttentionPlan;
using kernels::OwnPlan;
using kernels::PlannedRows;
using kernels::SegmentKind;

constexpr int64_t kTokens = 3000;

HeadPlan head_plan(const AttentionPlan* plan, int pixels, double recall) {
  const PlannedRows rows{.plan = plan, .rows = kTokens};
  HeadPlan head{.map = CoverageMap(kTokens, pixels),
                .size = plan_size(rows),
                .recall = recall,
                .least_recall = recall};
  head.map.add(rows);
  return head;
}

ModelPlan sample() {
  OwnPlan columns{.heads = {{.count = 2}}};
  columns.segments = {{.kind = SegmentKind::kRelative, .first = 0, .count = 64},
                      {.kind = SegmentKind::kColumns, .count = 40}};
  for (int32_t i = 0; i < 40; ++i) columns.columns.push_back(i * i);
  const AttentionPlan plan = columns.view();
  ModelPlan model{.model = "dir/<model>",
                  .document = "a & b.txt",
                  .method = "method:x=1",
                  .tokens = kTokens,
                  .sampled_queries = 64};
  model.layers.push_back({"dense", {head_plan(nullptr, 64, 1), head_plan(nullptr, 64, 1)}});
  model.layers.push_back({"a method with a long name: x=1,y=2,z=3",
                          {head_plan(&plan, 64, 0.5), head_plan(&plan, 512, std::nan(""))}});
  return model;
}

TEST(PlanMap, LevelsFollowTheShare) {
  EXPECT_EQ(level_of_share(0), 1);
  EXPECT_EQ(level_of_share(1e-9), 2);
  EXPECT_EQ(level_of_share(1), kLevels - 1);
  EXPECT_EQ(opacity_of_level(kLevels - 1), 1);
  for (int level = 3; level < kLevels; ++level)
    EXPECT_GT(opacity_of_level(level), opacity_of_level(level - 1));
}

// The pixels that an element's blocks paint, by level's opacity; -1 where two overlap.
std::vector<int> painted(const std::string& element, int pixels) {
  std::vector<int> levels(static_cast<size_t>(pixels * pixels), 0);
  size_t at = 0;
  while ((at = element.find("<path class=\"", at)) != std::string::npos) {
    const size_t end = element.find("/>", at);
    const std::string path = element.substr(at, end - at);
    int level = 1;
    if (path.find("k-c") != std::string::npos)
      for (int i = 2; i < kLevels; ++i)
        if (path.find("fill-opacity=\"" + coordinate(opacity_of_level(i)) + "\"") !=
            std::string::npos)
          level = i;
    for (size_t m = path.find('M'); m != std::string::npos; m = path.find('M', m + 1)) {
      int x = 0, y = 0, width = 0, height = 0;
      EXPECT_EQ(std::sscanf(path.c_str() + m, "M%d %dh%dv%d", &x, &y, &width, &height), 4);
      for (int row = y; row < y + height; ++row)
        for (int column = x; column < x + width; ++column) {
          int& pixel = levels[static_cast<size_t>(row * pixels + column)];
          pixel = pixel == 0 ? level : -1;
        }
    }
    at = end;
  }
  return levels;
}

TEST(PlanMap, BlocksPaintEveryPixelOnce) {
  constexpr int kPixels = 64;
  const OwnPlan local{.heads = {{.count = 2}},
                      .segments = {{.count = kernels::kNoBound, .offset_end = 300},
                                   {.count = 100, .offset_begin = 300}}};
  const AttentionPlan view = local.view();
  for (const AttentionPlan* plan : {&view, static_cast<const AttentionPlan*>(nullptr)}) {
    const HeadPlan head = head_plan(plan, kPixels, 1);
    const auto levels = painted(block_element(head.map, 96), kPixels);
    for (int row = 0; row < kPixels; ++row)
      for (int column = 0; column < kPixels; ++column)
        ASSERT_EQ(levels[static_cast<size_t>(row * kPixels + column)],
                  level_of(head.map, row, column))
            << row << " " << column;
  }
}

TEST(PlanMap, TheShorterElementIsTaken) {
  const ModelPlan model = sample();
  const CoverageMap tiny(2, 2), *large = &model.layers[1].heads[1].map;
  for (const CoverageMap* map : {&tiny, large}) {
    const std::string image = image_element(*map, 96), blocks = block_element(*map, 96);
    EXPECT_EQ(map_element(*map, 96), image.size() < blocks.size() ? image : blocks);
    EXPECT_EQ(image.size() < blocks.size(), map == large);
  }
}

TEST(PlanDrawing, IsWellFormedAndSaysWhatItShows) {
  const ModelPlan model = sample();
  for (const Drawing& drawing : {draw_model(model), draw_head(model, 1, 0), draw_head(model, 1, 1),
                                 draw_model({.model = "none"})}) {
    expect_well_formed(svg_file(drawing));
    EXPECT_FALSE(drawing.title.empty());
    EXPECT_FALSE(drawing.description.empty());
  }
  const std::string grid = draw_model(model).body;
  EXPECT_NE(grid.find(">100%<"), std::string::npos);
  EXPECT_NE(grid.find(">50%<"), std::string::npos) << "recall";
  EXPECT_EQ(svg_file(draw_model(model)), svg_file(draw_model(sample())));
}

TEST(PlanDrawing, MapsThatAreAlikeAreWrittenOnce) {
  const std::string grid = draw_model(sample()).body;
  size_t uses = 0, definitions = 0;
  for (size_t at = 0; (at = grid.find("<use ", at)) != std::string::npos; ++at) ++uses;
  for (size_t at = 0; (at = grid.find("<g id=", at)) != std::string::npos; ++at) ++definitions;
  EXPECT_EQ(uses, 4u);
  EXPECT_EQ(definitions, 3u) << "two dense heads share one";
}

TEST(PlanDrawing, ImagesHaveAMapAPixelWide) {
  const ModelPlan model = sample();
  const IndexedImage head = head_image(model, 1, 0);
  EXPECT_EQ(head.width, 64);
  EXPECT_EQ(head.palette.size(), static_cast<size_t>(kLevels));
  for (const Rgba& colour : head.palette) EXPECT_EQ(colour.alpha, 255) << "on white";
  const IndexedImage all = model_image(model);
  EXPECT_EQ(all.width, 4 + 2 * 516);
  EXPECT_FALSE(png_file(all).empty());
  EXPECT_FALSE(png_file(model_image({})).empty());
}

TEST(PlanPage, HasTotalsAndTables) {
  const ModelPlan model = sample();
  for (const std::string& html : {plan_page(model).html(), head_page(model, 1, 0).html()}) {
    expect_well_formed(html);
    EXPECT_NE(html.find("dir/&lt;model&gt;"), std::string::npos);
    EXPECT_NE(html.find("a &amp; b.txt"), std::string::npos);
  }
  const kernels::PlanSize one = model.layers[1].heads[0].size;
  EXPECT_NE(head_page(model, 1, 0).html().find(count(one.required).text), std::string::npos);
  expect_well_formed(plan_page({}).html());
}

}  // namespace
}  // namespace kvasir::report

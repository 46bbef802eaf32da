#include "report/charts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/xml_check.h"

namespace kvasir::report {
namespace {

const std::string kNasty = "<b> & \"quotes\" \xff and quite a few more words than fit on a line";

LineChart line_chart(std::vector<LineChart::Point> points) {
  return {.title = kNasty,
          .description = kNasty,
          .x = {.label = kNasty},
          .y = {.label = kNasty},
          .series = {{kNasty, std::move(points)}, {"other", {{1, 2, 1, 3}, {2, 3, 2, 4}}}}};
}

std::string checked(const Drawing& drawing) {
  expect_well_formed(svg_file(drawing));
  expect_well_formed(svg_inline(drawing));
  EXPECT_EQ(svg_file(drawing).find("nan"), std::string::npos);
  EXPECT_EQ(svg_file(drawing).find("inf"), std::string::npos);
  return drawing.body;
}

size_t times(const std::string& text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Charts, AnyLinesAreDrawn) {
  const double nan = std::nan(""), infinite = HUGE_VAL;
  for (const bool is_log : {false, true})
    for (auto& points : std::vector<std::vector<LineChart::Point>>{
             {},
             {{1, 5}},
             {{1, 5}, {1, 5}},
             {{nan, nan}},
             {{1, nan}, {2, 3}, {3, infinite}, {4, 5, nan, 6}},
             {{0, 0, -1, 1}, {1e9, -1e9, -2e9, 2e9}},
             {{1, 1e-300}, {2, 1e300}}}) {
      LineChart chart = line_chart(points);
      chart.x.is_log = chart.y.is_log = is_log;
      checked(draw(chart));
    }
  checked(draw(LineChart{}));
}

TEST(Charts, LinesStopAtMissingPoints) {
  const LineChart chart{.series = {{"", {{1, 1}, {2, 2}, {3, kMissing}, {4, 4}, {5, 5}}}}};
  const std::string body = checked(draw(chart));
  EXPECT_EQ(times(body, "fill=\"none\" stroke-width=\"2\""), 2u) << body;
  EXPECT_EQ(times(body, "<circle"), 4u);
  const std::string empty = checked(draw(LineChart{.series = {{"", {{1, kMissing}}}}}));
  EXPECT_NE(empty.find("no data"), std::string::npos);
}

TEST(Charts, LongLinesKeepTheirExtremes) {
  LineChart chart{.series = {{"", {}}}};
  for (int i = 0; i < 100000; ++i)
    chart.series[0].points.push_back({static_cast<double>(i), i == 54321 ? 100.0 : i % 7 * 1.0});
  const Drawing drawing = draw(chart);
  EXPECT_LT(checked(drawing).size(), 60000u);
  EXPECT_NE(drawing.body.find(" 0L"), std::string::npos) << "the peak reaches the top";
}

TEST(Charts, SeriesDifferInMoreThanColour) {
  LineChart chart;
  for (int i = 0; i < 4; ++i)
    chart.series.push_back({"series " + std::to_string(i), {{0, 1.0 * i}, {1, 1.0 * i}}});
  const std::string body = checked(draw(chart));
  EXPECT_EQ(times(body, "stroke-dasharray=\"7 3\""), 2u) << "line and key";
  EXPECT_EQ(times(body, "stroke-dasharray=\"2 3\""), 2u);
  for (int i = 0; i < 4; ++i)
    EXPECT_NE(body.find(">series " + std::to_string(i) + "<"), std::string::npos);
}

TEST(Charts, BarsOfAnyValues) {
  const double nan = std::nan("");
  BarChart chart;
  chart.title = chart.axis.label = kNasty;
  chart.groups = {"a", kNasty, "c"};
  chart.series = {{"x", {1, -2, nan}, {0, -3, nan}, {2, -1, nan}}, {kNasty, {5}, {}, {}}};
  const std::string body = checked(draw(chart));
  EXPECT_EQ(times(body, "k-e"), 2u) << "whiskers where both ends are";
  EXPECT_EQ(times(body, ">–<"), 3u) << "missing values say so";
  checked(draw(BarChart{}));
  BarChart infinite;
  infinite.groups = {"a"};
  infinite.series = {{"x", {HUGE_VAL}, {}, {}}};
  checked(draw(infinite));
  chart.groups.assign(200, kNasty);
  EXPECT_GT(draw(chart).height, 200 * 40) << "many rows make a long drawing";
}

TEST(Charts, HeatMapsOfAnyValues) {
  const double nan = std::nan("");
  HeatMap map{.title = kNasty,
              .row_label = kNasty,
              .column_label = "length",
              .rows = {"a", kNasty},
              .columns = {"4K", "8K", kNasty},
              .values = {{0, 0.5, 1}, {nan, HUGE_VAL}}};
  std::string body = checked(draw(map));
  EXPECT_EQ(times(body, "stroke-dasharray=\"2 2\""), 3u) << "NaN, infinite and none are missing";
  map.texts = {{"yes", "no", "<maybe>"}};
  body = checked(draw(map));
  EXPECT_NE(body.find(">yes<"), std::string::npos);
  checked(draw(HeatMap{}));
  map.values = {{3, 3, 3}, {3, 3, 3}};
  checked(draw(map));
  map.columns.assign(200, "c");
  EXPECT_GT(draw(map).width, 200 * 26) << "cells stay large enough to be seen";
}

TEST(Charts, SameDataSameBytes) {
  const auto chart = line_chart({{1, 5, 4, 6}, {2, 1.0 / 3}});
  EXPECT_EQ(svg_file(draw(chart)), svg_file(draw(chart)));
  const Drawing drawing = draw(chart);
  EXPECT_EQ(drawing.title, kNasty);
  EXPECT_NE(svg_file(drawing).find("role=\"img\""), std::string::npos);
  EXPECT_NE(svg_file(drawing).find("<desc>&lt;b&gt; &amp;"), std::string::npos);
}

TEST(Charts, CoordinatesAreShort) {
  EXPECT_EQ(coordinate(1), "1");
  EXPECT_EQ(coordinate(0.126), "0.13");
  EXPECT_EQ(coordinate(-0.001), "0");
  EXPECT_EQ(coordinate(1e9), "1000000000");
}

}  // namespace
}  // namespace kvasir::report

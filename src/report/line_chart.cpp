#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/charts.h"
#include "report/frame.h"
#include "report/style.h"

namespace kvasir::report {
namespace {

using Point = LineChart::Point;
using Run = std::vector<Point>;  // a line without a gap

constexpr size_t kMostMarkers = 40;

bool has_place(const Plot& plot, const Point& point) {
  return plot.x.holds(point.x) && plot.y.holds(point.y);
}

bool has_band(const Plot& plot, const Point& point) {
  return plot.x.holds(point.x) && plot.y.holds(point.low) && plot.y.holds(point.high);
}

template <class Holds>
std::vector<Run> runs_of(const std::vector<Point>& points, Holds holds) {
  std::vector<Run> runs;
  bool goes_on = false;
  for (const Point& point : points) {
    const bool is_there = holds(point);
    if (is_there && !goes_on) runs.emplace_back();
    if (is_there) runs.back().push_back(point);
    goes_on = is_there;
  }
  return runs;
}

bool is_dense(const Plot& plot, const Run& run) {
  return static_cast<double>(run.size()) > 2 * plot.width;
}

// Of a line with more points than can be told apart the first, lowest, highest and last of every
// pixel's column, in their order.
Run thinned(const Plot& plot, const Run& run) {
  if (!is_dense(plot, run)) return run;
  Run kept;
  for (size_t begin = 0; begin < run.size();) {
    const double column = std::floor(plot.x_of(run[begin].x));
    size_t end = begin, low = begin, high = begin;
    for (; end < run.size() && std::floor(plot.x_of(run[end].x)) == column; ++end) {
      if (run[end].y < run[low].y) low = end;
      if (run[end].y > run[high].y) high = end;
    }
    size_t chosen[] = {begin, low, high, end - 1};
    std::ranges::sort(chosen);
    const auto repeated = std::ranges::unique(chosen);
    std::for_each(std::begin(chosen), repeated.begin(), [&](size_t i) { kept.push_back(run[i]); });
    begin = end;
  }
  return kept;
}

// A path far outside the plot is cut off by it; coordinates stay of a size that readers can take.
std::string at(const Plot& plot, double x, double y) {
  const auto kept = [](double value) { return coordinate(std::clamp(value, -1e5, 1e5)); };
  return kept(plot.x_of(x) - plot.left) + " " + kept(plot.y_of(y) - plot.top);
}

std::string line_through(const Plot& plot, const Run& run) {
  std::string data;
  for (const Point& point : run) data += (data.empty() ? "M" : "L") + at(plot, point.x, point.y);
  return data;
}

std::string band_around(const Plot& plot, const Run& run) {
  std::string data;
  for (const Point& point : run) data += (data.empty() ? "M" : "L") + at(plot, point.x, point.high);
  for (auto point = run.rbegin(); point != run.rend(); ++point)
    data += "L" + at(plot, point->x, point->low);
  return data + "z";
}

void draw_series(SvgWriter& svg, const Plot& plot, const LineChart::Series& series, size_t index) {
  const size_t colour = index % kColours;
  svg.open_clip(plot.left, plot.top, plot.width, plot.height);
  for (const Run& run : runs_of(series.points, [&](const Point& p) { return has_band(plot, p); })) {
    if (run.size() > 1) {
      svg.path(band_around(plot, thinned(plot, run)), fmt::format("k-f{}", colour),
               "fill-opacity=\"0.16\"");
      continue;
    }
    const Point& point = run.front();
    svg.path(fmt::format("M{}L{}", at(plot, point.x, point.low), at(plot, point.x, point.high)),
             fmt::format("k-s{}", colour), "stroke-width=\"1.5\"");
  }
  for (const Run& run : runs_of(series.points, [&](const Point& p) { return has_place(plot, p); }))
    if (run.size() > 1)
      svg.path(line_through(plot, thinned(plot, run)), fmt::format("k-s{}", colour),
               fmt::format("fill=\"none\" stroke-width=\"{}\" stroke-linejoin=\"round\"{}",
                           is_dense(plot, run) ? 1.5 : 2, dash_of(index)));
  svg.close_clip();
  if (series.points.size() > kMostMarkers) return;
  for (const Point& point : series.points) {
    if (!has_place(plot, point)) continue;
    const double x = plot.x.place(point.x), y = plot.y.place(point.y);
    if (x < 0 || x > 1 || y < 0 || y > 1) continue;
    const std::string tip = fmt::format("{}: {}, {}", series.name, plot.x.fine_text(point.x),
                                        plot.y.fine_text(point.y));
    draw_marker(svg, index, plot.x_of(point.x), plot.y_of(point.y), tip);
  }
}

}  // namespace

Drawing draw(const LineChart& chart) {
  std::vector<double> xs, ys;
  std::vector<std::string> names;
  bool has_points = false;
  for (const LineChart::Series& series : chart.series) {
    names.push_back(series.name);
    for (const Point& point : series.points) {
      if (std::isnan(point.x)) continue;
      xs.push_back(point.x);
      ys.insert(ys.end(), {point.y, point.low, point.high});
      has_points = has_points || std::isfinite(point.y);
    }
  }
  SvgWriter svg;
  double top = draw_title(svg, chart.title, chart.width);
  if (names.size() > 1 || (names.size() == 1 && !names[0].empty()))
    top += draw_key(svg, names, KeyKind::kLines, 12, top, chart.width - 24);
  Plot plot{.top = top + 30, .y = make_scale(chart.y, ys, 7)};
  plot.left = 18 + widest_tick(plot.y);
  plot.height = std::max(40.0, chart.height - plot.top - 46);
  plot.x = make_scale(chart.x, xs, static_cast<int>((chart.width - plot.left) / 75));
  // The last label reaches beyond the axis.
  const double margin = 8 + text_width(plot.x.text(plot.x.ticks.back()), kFontSize) / 2;
  plot.width = std::max(40.0, chart.width - plot.left - std::max(24.0, margin));
  draw_y_axis(svg, plot, chart.y.label);
  draw_x_axis(svg, plot, chart.x.label, false);
  for (size_t i = 0; i < chart.series.size(); ++i) draw_series(svg, plot, chart.series[i], i);
  if (!has_points) draw_no_data(svg, plot);
  return {.width = chart.width,
          .height = plot.bottom() + 46,
          .title = chart.title,
          .description = chart.description,
          .body = svg.take()};
}

}  // namespace kvasir::report

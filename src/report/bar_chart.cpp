#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/charts.h"
#include "report/frame.h"
#include "report/style.h"

namespace kvasir::report {
namespace {

constexpr double kBar = 15, kBarGap = 2, kGroupGap = 12, kLine = 15;

double value_at(const std::vector<double>& values, size_t i) {
  return i < values.size() && std::isfinite(values[i]) ? values[i] : kMissing;
}

struct Bar {
  double value, low, high;
  bool has_whisker() const { return std::isfinite(low) && std::isfinite(high); }
};

Bar bar_of(const BarChart::Series& series, size_t group) {
  return {value_at(series.values, group), value_at(series.low, group),
          value_at(series.high, group)};
}

void draw_one(SvgWriter& svg, const Plot& plot, size_t series, const Bar& bar,
              const std::string& text, double y) {
  const double zero = plot.x_of(std::clamp(0.0, plot.x.least, plot.x.most));
  if (std::isnan(bar.value)) {
    svg.text(zero + 4, y + kBar - 4, text, "k-m");
    return;
  }
  const double end = std::clamp(plot.x_of(bar.value), plot.left, plot.right());
  draw_bar(svg, series, std::min(zero, end), y, std::abs(end - zero), kBar);
  double left = std::min(zero, end), right = std::max(zero, end);
  if (bar.has_whisker()) {
    const double low = std::clamp(plot.x_of(bar.low), plot.left, plot.right());
    const double high = std::clamp(plot.x_of(bar.high), plot.left, plot.right());
    const double middle = y + kBar / 2;
    svg.path(fmt::format("M{0} {2}v6m0 -3H{1}m0 -3v6", coordinate(low), coordinate(high),
                         coordinate(middle - 3)),
             "k-e");
    left = std::min(left, low);
    right = std::max(right, high);
  }
  if (bar.value < 0)
    svg.text(left - 5, y + kBar - 4, text, "k-t", Anchor::kEnd);
  else
    svg.text(right + 5, y + kBar - 4, text);
}

}  // namespace

Drawing draw(const BarChart& chart) {
  std::vector<double> values{0};
  std::vector<std::string> names;
  for (const BarChart::Series& series : chart.series) {
    names.push_back(series.name);
    for (size_t group = 0; group < chart.groups.size(); ++group) {
      const Bar bar = bar_of(series, group);
      values.insert(values.end(), {bar.value, bar.low, bar.high});
    }
  }
  Axis axis = chart.axis;
  axis.is_log = false;
  const bool has_negative =
      std::ranges::any_of(values, [](double value) { return value < 0; });  // NaN is not

  SvgWriter svg;
  double top = draw_title(svg, chart.title, chart.width);
  if (names.size() > 1 || (names.size() == 1 && !names[0].empty()))
    top += draw_key(svg, names, KeyKind::kBars, 12, top, chart.width - 24);

  double widest = 0;
  for (const std::string& group : chart.groups)
    widest = std::max(widest, text_width(group, kFontSize));
  const double label = std::min(widest, 0.34 * chart.width);
  const double value_width = 58;  // beside a bar
  Plot plot{.left = 24 + label + (has_negative ? value_width : 0), .top = top + 8};
  plot.width = std::max(40.0, chart.width - plot.left - value_width - 12);
  plot.x = make_scale(axis, values, static_cast<int>(plot.width / 70));

  // Rows first, so that the axis knows its height; they are drawn over it.
  SvgWriter rows;
  double y = plot.top + kGroupGap / 2;
  for (size_t group = 0; group < chart.groups.size(); ++group) {
    auto lines = wrapped(chart.groups[group], kFontSize, label + 1);
    if (lines.size() > 3) {
      lines.resize(3);
      lines[2] = shortened(lines[2] + " …", kFontSize, label);
    }
    const double bars = static_cast<double>(chart.series.size()) * (kBar + kBarGap) - kBarGap;
    const double text_height = static_cast<double>(lines.size()) * kLine;
    const double height = std::max({bars, text_height, kBar});
    double text_y = y + (height - text_height) / 2 + kLine - 4;
    for (const std::string& line : lines) {
      rows.text(12 + label, text_y, line, "k-t", Anchor::kEnd);
      text_y += kLine;
    }
    double bar_y = y + (height - bars) / 2;
    for (size_t i = 0; i < chart.series.size(); ++i) {
      const Bar bar = bar_of(chart.series[i], group);
      draw_one(rows, plot, i, bar, std::isnan(bar.value) ? "–" : plot.x.fine_text(bar.value),
               bar_y);
      bar_y += kBar + kBarGap;
    }
    y += height + kGroupGap;
  }
  plot.height = std::max(40.0, y - kGroupGap / 2 - plot.top);
  draw_x_axis(svg, plot, chart.axis.label, true);
  svg.raw(rows.take());
  const double zero = plot.x_of(std::clamp(0.0, plot.x.least, plot.x.most));
  svg.line(zero, plot.top, zero, plot.bottom(), "k-a");
  if (chart.groups.empty() || chart.series.empty()) draw_no_data(svg, plot);
  return {.width = chart.width,
          .height = plot.bottom() + 46,
          .title = chart.title,
          .description = chart.description,
          .body = svg.take()};
}

}  // namespace kvasir::report

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/charts.h"
#include "report/style.h"

namespace kvasir::report {
namespace {

constexpr double kCellHeight = 26, kLeastCell = 26, kMostCell = 96, kBarWidth = 14;

struct Layout {
  double left, top, cell, width, height;  // of the cells
  bool is_steep;                          // column names do not fit across
  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

class Painter {
 public:
  explicit Painter(const HeatMap& map) : map_(map) {
    double least = std::numeric_limits<double>::infinity(), most = -least;
    for (size_t row = 0; row < map.rows.size(); ++row)
      for (size_t column = 0; column < map.columns.size(); ++column)
        if (const double x = at(row, column); std::isfinite(x)) {
          least = std::min(least, x);
          most = std::max(most, x);
        }
    has_values_ = least <= most;
    least_ = map.least.value_or(has_values_ ? least : 0);
    most_ = map.most.value_or(has_values_ ? most : 1);
  }

  Drawing draw() {
    const double top = draw_title(svg_, map_.title, map_.width);
    lay_out(top);
    draw_names();
    for (size_t row = 0; row < map_.rows.size(); ++row)
      for (size_t column = 0; column < map_.columns.size(); ++column) draw_cell(row, column);
    if (has_values_) draw_scale();
    if (map_.rows.empty() || map_.columns.empty())
      svg_.text(place_.left + place_.width / 2, place_.top + place_.height / 2 + 4, "no data",
                "k-m", Anchor::kMiddle);
    return {.width = std::max(map_.width, place_.right() + 96),
            .height = height_,
            .title = map_.title,
            .description = map_.description,
            .body = svg_.take()};
  }

 private:
  double at(size_t row, size_t column) const {
    if (row >= map_.values.size() || column >= map_.values[row].size()) return kMissing;
    return map_.values[row][column];
  }

  std::string text_at(size_t row, size_t column) const {
    if (row < map_.texts.size() && column < map_.texts[row].size()) return map_.texts[row][column];
    return number_text(at(row, column), resolution(), map_.style);
  }

  // Two digits of the range.
  double resolution() const {
    const double range = most_ - least_;
    return range > 0 ? std::pow(10, std::floor(std::log10(range)) - 1) : 0;
  }

  void lay_out(double top) {
    double widest_row = text_width(map_.row_label, kFontSize), widest_column = 0;
    for (const std::string& name : map_.rows)
      widest_row = std::max(widest_row, text_width(name, kFontSize));
    for (const std::string& name : map_.columns)
      widest_column = std::max(widest_column, text_width(name, kFontSize));
    place_.left = 22 + std::min(widest_row, 0.34 * map_.width);
    place_.top = top + (map_.row_label.empty() ? 8 : 24);
    const double columns = static_cast<double>(std::max<size_t>(1, map_.columns.size()));
    place_.cell = std::clamp((map_.width - place_.left - 96) / columns, kLeastCell, kMostCell);
    place_.width = place_.cell * columns;
    place_.height = kCellHeight * static_cast<double>(std::max<size_t>(1, map_.rows.size()));
    place_.is_steep = widest_column > place_.cell - 4;
    names_height_ = place_.is_steep ? 14 + std::min(widest_column, 150.0) : 20;
    height_ = place_.bottom() + names_height_ + (map_.column_label.empty() ? 6 : 24);
  }

  void draw_names() {
    svg_.text(place_.left - 8, place_.top - 8, map_.row_label, "k-t", Anchor::kEnd);
    double y = place_.top + kCellHeight / 2 + 4;
    for (const std::string& name : map_.rows) {
      svg_.text(place_.left - 8, y, shortened(name, kFontSize, place_.left - 20), "k-t",
                Anchor::kEnd);
      y += kCellHeight;
    }
    double x = place_.left + place_.cell / 2;
    for (const std::string& name : map_.columns) {
      if (place_.is_steep) {
        const double bottom = place_.bottom() + 8;
        svg_.text(
            x + 4, bottom, shortened(name, kFontSize, 150), "k-t", Anchor::kEnd,
            fmt::format("transform=\"rotate(-90 {} {})\"", coordinate(x + 4), coordinate(bottom)));
      } else {
        svg_.text(x, place_.bottom() + 16, name, "k-t", Anchor::kMiddle);
      }
      x += place_.cell;
    }
    svg_.text(place_.left + place_.width / 2, height_ - 8, map_.column_label, "k-t",
              Anchor::kMiddle);
  }

  void draw_cell(size_t row, size_t column) {
    const double x = place_.left + place_.cell * static_cast<double>(column);
    const double y = place_.top + kCellHeight * static_cast<double>(row);
    const double value = at(row, column);
    const std::string text = text_at(row, column);
    const std::string tip = fmt::format("{}, {}: {}", map_.rows[row], map_.columns[column], text);
    const bool fits = text_width(text, kFontSize) <= place_.cell - 2;
    if (!std::isfinite(value)) {
      svg_.rect(x + 1, y + 1, place_.cell - 2, kCellHeight - 2, "k-g", "stroke-dasharray=\"2 2\"",
                tip);
      if (fits)
        svg_.text(x + place_.cell / 2, y + kCellHeight / 2 + 4, text, "k-m", Anchor::kMiddle);
      return;
    }
    const Colour colour = colour_of(value);
    svg_.rect(x + 0.5, y + 0.5, place_.cell - 1, kCellHeight - 1, {},
              fmt::format("fill=\"{}\"", colour.hex()), tip);
    if (!fits) return;
    svg_.text(x + place_.cell / 2, y + kCellHeight / 2 + 4, text, "k-t", Anchor::kMiddle,
              fmt::format("style=\"fill:{}\"", ink_on(colour).hex()));
  }

  Colour colour_of(double value) const {
    return sequential(most_ > least_ ? (value - least_) / (most_ - least_) : 0.5);
  }

  // What the colours mean, beside the cells: most on top.
  void draw_scale() {
    constexpr int kSteps = 10;
    const double x = place_.right() + 18;
    const double height = std::clamp(place_.height, 60.0, 160.0) / kSteps;
    for (int i = 0; i < kSteps; ++i)
      svg_.rect(x, place_.top + (kSteps - 1 - i) * height, kBarWidth, height + 0.3, {},
                fmt::format("fill=\"{}\"", sequential((i + 0.5) / kSteps).hex()));
    svg_.text(x + kBarWidth + 5, place_.top + 10, number_text(most_, resolution(), map_.style),
              "k-m");
    svg_.text(x + kBarWidth + 5, place_.top + kSteps * height,
              number_text(least_, resolution(), map_.style), "k-m");
    height_ = std::max(height_, place_.top + kSteps * height + 12);
  }

  const HeatMap& map_;
  SvgWriter svg_;
  bool has_values_ = false;
  double least_ = 0, most_ = 1;
  Layout place_{};
  double names_height_ = 0, height_ = 0;
};

}  // namespace

Drawing draw(const HeatMap& map) { return Painter(map).draw(); }

}  // namespace kvasir::report

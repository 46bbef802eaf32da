#pragma once
// What charts share: the key of their series, and axes around a plot.

#include <string>
#include <vector>

#include "report/svg.h"
#include "report/ticks.h"

namespace kvasir::report {

inline constexpr int kColours = 8;

// How series are told apart without colours.
std::string dash_of(size_t series);  // " name=value", or nothing
void draw_marker(SvgWriter& svg, size_t series, double x, double y, std::string_view tip = {});
// Of every second series bars are outlined and paler.
void draw_bar(SvgWriter& svg, size_t series, double x, double y, double width, double height,
              std::string_view tip = {});

enum class KeyKind { kLines, kBars };
// Names of series with a sample of each, in rows of at most `width`, from (left, top) on; returns
// the height.
double draw_key(SvgWriter& svg, const std::vector<std::string>& names, KeyKind kind, double left,
                double top, double width);

struct Plot {
  double left = 0, top = 0, width = 0, height = 0;
  Scale x, y;

  double right() const { return left + width; }
  double bottom() const { return top + height; }
  double x_of(double value) const { return left + width * x.place(value); }
  double y_of(double value) const { return bottom() - height * y.place(value); }
};

double widest_tick(const Scale& scale);
void draw_x_axis(SvgWriter& svg, const Plot& plot, const std::string& label, bool with_grid);
void draw_y_axis(SvgWriter& svg, const Plot& plot, const std::string& label);
void draw_no_data(SvgWriter& svg, const Plot& plot);

}  // namespace kvasir::report

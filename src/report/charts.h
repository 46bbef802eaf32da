#pragma once
// Charts as drawings. Values that are NaN are missing; infinite ones are, too.

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "report/svg.h"
#include "report/ticks.h"

namespace kvasir::report {

inline constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

// A line goes from point to point in the order given and stops at missing ones. Where both `low`
// and `high` are there, the band between them is shaded; of a point that stands alone it is a
// whisker.
struct LineChart {
  struct Point {
    double x = kMissing, y = kMissing;
    double low = kMissing, high = kMissing;
  };
  struct Series {
    std::string name;
    std::vector<Point> points;
  };
  std::string title, description;
  Axis x, y;
  std::vector<Series> series;
  double width = 720, height = 400;
};

// Bars lie, group under group, so that long names can be read and there may be many.
struct BarChart {
  struct Series {
    std::string name;
    std::vector<double> values;     // [groups]
    std::vector<double> low, high;  // [groups] of the whiskers; or empty
  };
  std::string title, description;
  Axis axis;  // linear, and 0 is on it
  std::vector<std::string> groups;
  std::vector<Series> series;
  double width = 720;
};

struct HeatMap {
  std::string title, description;
  std::string row_label, column_label;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;      // [rows][columns]
  std::vector<std::vector<std::string>> texts;  // what cells say instead of their values; or empty
  NumberStyle style = NumberStyle::kPlain;
  std::optional<double> least, most;  // of the colours; none: the values'
  double width = 720;                 // at least; many columns take more
};

Drawing draw(const LineChart& chart);
Drawing draw(const BarChart& chart);
Drawing draw(const HeatMap& map);

}  // namespace kvasir::report

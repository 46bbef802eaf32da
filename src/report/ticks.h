#pragma once
// The range of an axis and the values that it names.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "report/text.h"

namespace kvasir::report {

struct Axis {
  std::string label;
  bool is_log = false;  // values that are not positive are left out
  NumberStyle style = NumberStyle::kPlain;
  std::optional<double> least;  // none: as the data need, on a round value
  std::optional<double> most;
};

// An axis over [least, most], least < most, both finite and, where is_log, positive.
struct Scale {
  double least = 0;
  double most = 1;
  bool is_log = false;
  NumberStyle style = NumberStyle::kPlain;
  double step = 0;            // between ticks of a linear axis
  std::vector<double> ticks;  // ascending, within the range; at least one

  bool holds(double value) const;             // whether a value has a place on the axis at all
  double place(double value) const;           // 0 at least, 1 at most; beyond for values beyond
  std::string text(double value) const;       // as a tick's label
  std::string fine_text(double value) const;  // with two digits more; of a value that has a place
};

// For values (NaN and infinite ones do not count), with at most about `most_ticks` ticks.
Scale make_scale(const Axis& axis, std::span<const double> values, int most_ticks);

}  // namespace kvasir::report

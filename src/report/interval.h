#pragma once
// 95 % intervals of proportions.

#include <cstdint>

namespace kvasir::report {

struct Interval {
  double low = 0, high = 1;
};

// Of `right` out of `questions` (Wilson 1927).
Interval wilson_interval(int64_t right, int64_t questions);

// Of the difference between two proportions of the same `questions`: `gained` are right with the
// first alone, `lost` with the second alone (Agresti and Min 2005: half a question added to each).
Interval paired_interval(int64_t gained, int64_t lost, int64_t questions);

}  // namespace kvasir::report

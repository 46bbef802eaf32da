#pragma once
// Timing with warm-up, medians and spread; the table that every benchmark fills.

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"

namespace kvasir::bench {

struct Timing {
  double median_seconds = 0;
  double min_seconds = 0;
  double max_seconds = 0;
  int repetitions = 0;
};

// One warm-up, then `repetitions` runs; fewer (never under three) once `budget_seconds` are spent.
Timing measure(int repetitions, const std::function<void()>& body, double budget_seconds = 20);

// The same for `body` and, beside each of its runs, `yardstick`: on machines whose speed changes
// from moment to moment their ratio is steadier than either.
struct TimingBeside {
  Timing timing;             // of the body
  double yardstick_seconds;  // median
  double ratio;              // median of yardstick over body
};
TimingBeside measure_beside(int repetitions, const std::function<void()>& body,
                            const std::function<void()>& yardstick, double budget_seconds = 20);

// One line of the report. Figures keep their order.
struct Line {
  std::string name;
  Timing timing;
  std::vector<std::pair<std::string, double>> figures;  // "GFLOP/s" -> 312.4, "x libtorch" -> 2.4
};

struct Report {
  std::string title;
  std::vector<Line> lines;
  std::string device;              // the GPU; empty = on the CPU
  std::vector<std::string> notes;  // state of the machine: clocks, power
};

// Table for people.
void print(const Report& report, std::ostream& out);
// {"benchmark", "machine", "isa", "threads", "commit", "compiler", "date", "lines": [...]}, on a
// GPU also "device" and "notes".
std::string to_json(const Report& report, int threads);

}  // namespace kvasir::bench

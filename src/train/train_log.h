#pragma once
// What a run leaves to read: log.jsonl, one object a line, and loss.svg, its curve.

#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/evaluation.h"

namespace kvasir::train {

struct LogLine {
  int64_t step = 0;  // steps done
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0;            // of the run so far
  double tokens_per_second = 0;  // since the line before
  double utilisation = 0;        // of the device's peak; 0: not known
};

// What is drawn of a run, by step.
struct Curves {
  using Points = std::vector<std::pair<int64_t, double>>;
  Points losses;
  // Shares of exact answers by length and task.
  std::map<int64_t, std::map<std::string, Points>> accuracies;
};

class TrainLog {
 public:
  // Goes on with the lines of at most `step` steps that are there: a run that is taken up writes
  // the later ones again.
  TrainLog(const std::filesystem::path& folder, int64_t step);

  void write(const LogLine& line);
  // A line for each measurement, and one with the seconds that all took.
  void write(int64_t step, std::span<const Measurement> found, double seconds);
  // The curves of all lines so far. Throws kIo.
  void draw() const;

 private:
  void append(const std::string& line);

  std::filesystem::path folder_;
  std::ofstream file_;
  Curves curves_;
};

// The curves as an SVG image: the loss, below it the accuracies.
std::string curves_svg(const Curves& curves);

}  // namespace kvasir::train

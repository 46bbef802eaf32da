#pragma once
// What a run leaves to read: log.jsonl, one object a line, and loss.svg, its curve.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/result.h"

namespace kvasir::train {

struct LogLine {
  int64_t step = 0;  // steps done
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0;            // of the run so far
  double tokens_per_second = 0;  // since the line before
  double utilisation = 0;        // of the device's peak; 0: not known
};

class TrainLog {
 public:
  // Goes on with the lines of at most `step` steps that are there: a run that is taken up writes
  // the later ones again.
  TrainLog(const std::filesystem::path& folder, int64_t step);

  void write(const LogLine& line);
  // {"step": 500, "held_out_loss": 3.1}
  void write_value(int64_t step, const std::string& name, double value);
  // The curve of all lines so far. Throws kIo.
  void draw() const;

 private:
  void append(const std::string& line);

  std::filesystem::path folder_;
  std::ofstream file_;
  std::vector<std::pair<int64_t, double>> losses_;
};

// The curve of (step, loss) as an SVG image.
std::string loss_svg(const std::vector<std::pair<int64_t, double>>& losses);

}  // namespace kvasir::train

#pragma once
// Perplexity over windows of text: which tokens, and how sums become figures.

#include <cmath>
#include <cstdint>
#include <vector>

namespace kvasir::tasks {

struct Window {
  int64_t first = 0, count = 0;  // tokens of a text; all but its first are predicted
};

// Windows of `length` tokens, one behind the other, `most` of them at most; a rest that is shorter
// is left out, so that all figures are of one length.
inline std::vector<Window> perplexity_windows(int64_t tokens, int64_t length, int64_t most) {
  std::vector<Window> windows;
  for (int64_t first = 0;
       first + length <= tokens && length > 1 && static_cast<int64_t>(windows.size()) < most;
       first += length)
    windows.push_back({first, length});
  return windows;
}

// Sums of all windows, each of them exact: no prediction is left out.
class Perplexity {
 public:
  // `nats`: of all `predictions` of a window.
  void add(double nats, int64_t predictions) {
    nats_ += nats;
    predictions_ += predictions;
    sum_of_windows_ += std::exp(nats / static_cast<double>(predictions));
    ++windows_;
  }
  double nats_per_token() const { return nats_ / static_cast<double>(predictions_); }
  double value() const { return std::exp(nats_per_token()); }
  // The mean of the windows' perplexities, as published figures are.
  double mean_of_windows() const { return sum_of_windows_ / static_cast<double>(windows_); }
  int64_t predictions() const { return predictions_; }

 private:
  double nats_ = 0, sum_of_windows_ = 0;
  int64_t predictions_ = 0, windows_ = 0;
};

}  // namespace kvasir::tasks

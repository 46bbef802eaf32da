#pragma once
// Progress of one long activity. On a terminal: a bar that redraws in place, with amount, rate and
// time left. Elsewhere: one line every few seconds, so that a log shows life without filling up.
//
//   reading  ███████████░░░░░░░░░░░░░  46 %  23,104 / 50,123 tokens  4,071 tokens/s  0:07 left
//
// Not thread-safe: one thread updates. Writes only through `write`, reads time only from `now`.

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

namespace kvasir {

struct ProgressOptions {
  std::function<void(std::string_view)> write;  // null = silent
  bool terminal = false;                        // redraw in place
  int width = 80;                               // columns of the terminal; the bar takes the rest
  std::function<double()> now;                  // monotonic seconds; null = steady_clock
  double redraw_seconds = 0.1;                  // least time between redraws on a terminal
  double line_seconds = 5;                      // time between lines elsewhere
};

class Progress {
 public:
  // kShare: steps that have no name; only the percentage and the time left are shown.
  enum class Unit { kTokens, kBytes, kRequests, kShare };

  Progress(ProgressOptions options, std::string label, Unit unit = Unit::kTokens);
  ~Progress();  // clears the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total`; total <= 0 = not known. The first call only sets the start for the rate, so
  // that what was there already (a cached prefix) does not count as fast work. Draws when it is
  // time to; always draws the last state (done == total) of a bar that was drawn before.
  void update(int64_t done, int64_t total);
  // Takes the bar off the terminal, so that other text can be written; update() draws it again.
  void clear();

  // The line as it would be drawn now, without control characters. For tests.
  std::string line() const;

 private:
  struct Mark {
    double time;
    int64_t done;
  };
  double rate() const;

  ProgressOptions options_;
  std::string label_;
  Unit unit_;
  int64_t done_ = 0, total_ = 0;
  std::deque<Mark> marks_;  // of the last seconds; the rate is theirs
  double last_draw_ = 0;
  bool drawn_ = false;
};

// 1234567 -> "1,234,567".
std::string with_thousands(int64_t value);
// 75 -> "1:15", 3700 -> "1:01:40"; rounded to whole seconds.
std::string as_duration(double seconds);
// Binary units with one decimal: 1536 -> "1.5 KiB".
std::string as_bytes(int64_t bytes);

}  // namespace kvasir

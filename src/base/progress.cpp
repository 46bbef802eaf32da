#include "base/progress.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

namespace kvasir {
namespace {

constexpr double kRateWindowSeconds = 10;

double steady_seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

std::string repeat(std::string_view piece, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += piece;
  return text;
}

}  // namespace

std::string with_thousands(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool is_group_start = i > 0 && digits[i - 1] != '-' && (digits.size() - i) % 3 == 0;
    if (is_group_start) text += ',';
    text += digits[i];
  }
  return text;
}

std::string as_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, rest);
  return fmt::format("{}:{:02}", minutes, rest);
}

std::string as_bytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; std::abs(value) >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

Progress::Progress(ProgressOptions options, std::string label, Unit unit)
    : options_(std::move(options)), label_(std::move(label)), unit_(unit) {
  if (!options_.now) options_.now = steady_seconds;
  last_draw_ = options_.now();
}

Progress::~Progress() { clear(); }

double Progress::rate() const {
  if (marks_.size() < 2) return 0;
  const double seconds = marks_.back().time - marks_.front().time;
  if (seconds <= 0) return 0;
  return static_cast<double>(marks_.back().done - marks_.front().done) / seconds;
}

void Progress::update(int64_t done, int64_t total) {
  done_ = done;
  total_ = total;
  const double now = options_.now();
  marks_.push_back({now, done});
  while (marks_.size() > 2 && now - marks_.front().time > kRateWindowSeconds) marks_.pop_front();
  if (!options_.write) return;

  const bool ended = total_ > 0 && done_ >= total_;
  const double interval = options_.terminal ? options_.redraw_seconds : options_.line_seconds;
  if (now - last_draw_ < interval && !(ended && drawn_)) return;
  last_draw_ = now;
  drawn_ = true;
  options_.write(options_.terminal ? fmt::format("\r{}\x1b[K", line())
                                   : fmt::format("{}\n", line()));
}

void Progress::clear() {
  if (drawn_ && options_.terminal && options_.write) options_.write("\r\x1b[K");
  drawn_ = false;
}

std::string Progress::line() const {
  const bool is_bytes = unit_ == Unit::kBytes;
  const char* const unit = is_bytes ? "" : unit_ == Unit::kTokens ? " tokens" : " requests";
  const auto amount = [&](int64_t value) {
    return is_bytes ? as_bytes(value) : with_thousands(value);
  };
  std::string numbers;
  const bool is_share = unit_ == Unit::kShare;
  if (total_ > 0) {
    const auto percent = static_cast<int>(100 * std::min(done_, total_) / total_);
    if (is_share)
      numbers = fmt::format("{:3} %", percent);
    else
      numbers = fmt::format("{:3} %  {} / {}", percent, amount(done_), amount(total_));
  } else {
    numbers = amount(done_);
  }
  if (!is_share) numbers += unit;
  if (const double speed = rate(); speed > 0) {
    const std::string whole = speed < 10 && !is_bytes
                                  ? fmt::format("{:.1f}", speed)
                                  : amount(static_cast<int64_t>(std::llround(speed)));
    if (!is_share) numbers += fmt::format("  {}{}/s", whole, unit);
    if (total_ > done_)
      numbers += fmt::format("  {} left", as_duration(static_cast<double>(total_ - done_) / speed));
  }
  if (!options_.terminal || total_ <= 0) return label_ + "  " + numbers;

  // One column stays free, so that no terminal wraps the line.
  const int used = static_cast<int>(label_.size() + numbers.size()) + 4 + 1;
  const int cells = std::min(30, options_.width - used);
  if (cells < 5) {
    const auto fitting = static_cast<size_t>(std::max(0, options_.width - 1));
    return (label_ + "  " + numbers).substr(0, fitting);
  }
  const auto full = static_cast<int>(cells * std::min(done_, total_) / total_);
  return label_ + "  " + repeat("█", full) + repeat("░", cells - full) + "  " + numbers;
}

}  // namespace kvasir

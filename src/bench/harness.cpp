#include "bench/harness.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/cpu_info.h"
#include "bench/build_info.h"

namespace kvasir::bench {

namespace {

double seconds_of(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Timing timing_of(const std::vector<double>& seconds) {
  const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
  return {.median_seconds = median(seconds),
          .min_seconds = *least,
          .max_seconds = *most,
          .repetitions = static_cast<int>(seconds.size())};
}

}  // namespace

Timing measure(int repetitions, const std::function<void()>& body, double budget_seconds) {
  return measure_beside(repetitions, body, [] {}, budget_seconds).timing;
}

TimingBeside measure_beside(int repetitions, const std::function<void()>& body,
                            const std::function<void()>& yardstick, double budget_seconds) {
  double spent = seconds_of(yardstick) + seconds_of(body);  // warm-up
  std::vector<double> seconds, beside, ratios;
  while (static_cast<int>(seconds.size()) < repetitions &&
         (seconds.size() < 3 || spent < budget_seconds)) {
    beside.push_back(seconds_of(yardstick));
    seconds.push_back(seconds_of(body));
    ratios.push_back(beside.back() / seconds.back());
    spent += beside.back() + seconds.back();
  }
  return {
      .timing = timing_of(seconds), .yardstick_seconds = median(beside), .ratio = median(ratios)};
}

namespace {

std::string duration(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::string figure(double value) {
  if (value >= 1000) return fmt::format("{:.0f}", value);
  return value >= 100 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

}  // namespace

void print(const Report& report, std::ostream& out) {
  out << report.title << "\n";
  if (report.device.empty()) out << cpu_model_name() << ", " << isa_name(best_isa()) << "\n";
  for (const std::string& note : report.notes) out << note << "\n";
  out << "\n";
  size_t width = 4;
  for (const Line& line : report.lines) width = std::max(width, line.name.size());
  for (const Line& line : report.lines) {
    out << fmt::format("{:<{}}", line.name, width);
    if (line.timing.repetitions > 0) {
      const Timing& timing = line.timing;
      const double spread = (timing.max_seconds - timing.min_seconds) / timing.median_seconds;
      out << fmt::format("  {:>10}  ±{:>4.1f} %  n={}", duration(timing.median_seconds),
                         spread * 50, timing.repetitions);
    }
    for (const auto& [name, value] : line.figures)
      out << fmt::format("  {:>8} {}", figure(value), name);
    out << "\n";
  }
}

std::string to_json(const Report& report, int threads) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &utc);
  nlohmann::ordered_json lines = nlohmann::ordered_json::array();
  for (const Line& line : report.lines) {
    nlohmann::ordered_json entry{{"name", line.name}};
    if (line.timing.repetitions > 0)
      entry["seconds"] = {{"median", line.timing.median_seconds},
                          {"min", line.timing.min_seconds},
                          {"max", line.timing.max_seconds},
                          {"repetitions", line.timing.repetitions}};
    for (const auto& [name, value] : line.figures) entry["figures"][name] = value;
    lines.push_back(std::move(entry));
  }
  nlohmann::ordered_json object{{"benchmark", report.title},
                                {"machine", cpu_model_name()},
                                {"isa", isa_name(best_isa())},
                                {"threads", threads},
                                {"commit", kBuildCommit},
                                {"compiler", kBuildCompiler},
                                {"date", date},
                                {"lines", std::move(lines)}};
  if (!report.device.empty()) {
    object["device"] = report.device;
    object["notes"] = report.notes;
  }
  return object.dump();
}

}  // namespace kvasir::bench

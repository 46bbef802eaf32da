#include "train/train_log.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "base/progress.h"
#include "report/charts.h"

namespace kvasir::train {
namespace {

template <class Json>
void add_line(Curves& curves, const Json& json) {
  const int64_t step = json.value("step", int64_t{0});
  if (json.contains("loss") && json["loss"].is_number())
    curves.losses.emplace_back(step, json["loss"].template get<double>());
  if (json.contains("accuracy") && json["accuracy"].is_number())
    curves.accuracies[json.value("length", int64_t{0})][json.value("evaluation", std::string())]
        .emplace_back(step, json["accuracy"].template get<double>());
}

}  // namespace

TrainLog::TrainLog(const std::filesystem::path& folder, int64_t step) : folder_(folder) {
  const std::filesystem::path path = folder / "log.jsonl";
  std::string kept;
  if (std::filesystem::exists(path)) {
    std::istringstream lines(read_file(path).value());
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      // A line that a killed process left unfinished goes, too.
      if (!json.is_object() || json.value("step", step + 1) > step) continue;
      kept += line + "\n";
      add_line(curves_, json);
    }
  }
  write_file(path, kept).value();
  file_.open(path, std::ios::app);
}

void TrainLog::append(const std::string& line) {
  file_ << line << '\n' << std::flush;
  if (!file_)
    throw Error(ErrorCode::kIo, "cannot write; is the disk full?",
                (folder_ / "log.jsonl").string());
}

void TrainLog::write(const LogLine& line) {
  curves_.losses.emplace_back(line.step, line.loss);
  nlohmann::ordered_json json{{"step", line.step},
                              {"loss", line.loss},
                              {"gradient_norm", line.gradient_norm},
                              {"learning_rate", line.learning_rate},
                              {"tokens", line.tokens},
                              {"tokens_per_second", std::round(line.tokens_per_second)}};
  if (line.utilisation > 0) json["utilisation"] = std::round(line.utilisation * 1e4) / 1e4;
  append(json.dump());
}

void TrainLog::write(int64_t step, std::span<const Measurement> found, double seconds) {
  for (const Measurement& one : found) {
    nlohmann::ordered_json json{{"step", step}, {"evaluation", one.name}, {"length", one.length}};
    if (!one.accuracy) {
      json["held_out_loss"] = one.loss;
    } else {
      json["answer_loss"] = one.loss;
      json["accuracy"] = one.accuracy->share();
      json["answers"] = one.accuracy->answers;
      for (const auto& [hops, accuracy] : one.by_hops)
        json["accuracy_by_hops"][std::to_string(hops)] = accuracy.share();
    }
    append(json.dump());
    add_line(curves_, json);
  }
  append(nlohmann::ordered_json{{"step", step}, {"evaluation_seconds", seconds}}.dump());
}

void TrainLog::draw() const { write_file(folder_ / "loss.svg", curves_svg(curves_)).value(); }

namespace {

report::LineChart::Series series_of(const std::string& name, const Curves::Points& points) {
  report::LineChart::Series series{.name = name, .points = {}};
  // No more points than pixels can show.
  const size_t stride = std::max<size_t>(1, points.size() / 2000);
  for (size_t i = 0; i < points.size(); i += stride)
    series.points.push_back({.x = static_cast<double>(points[i].first), .y = points[i].second});
  return series;
}

}  // namespace

std::string curves_svg(const Curves& curves) {
  std::vector<report::Drawing> panels;
  report::LineChart loss;
  loss.title = "Training loss";
  loss.x.label = "step";
  loss.y.label = "nats per token";
  loss.series.push_back(series_of("", curves.losses));
  panels.push_back(report::draw(loss));
  for (const auto& [length, tasks] : curves.accuracies) {
    report::LineChart chart;
    chart.title = "Exact answers at " + with_thousands(length) + " tokens";
    chart.x = {.label = "step", .least = 0, .most = {}};
    chart.y = {.label = "share", .least = 0, .most = 1};
    for (const auto& [task, points] : tasks) chart.series.push_back(series_of(task, points));
    panels.push_back(report::draw(chart));
  }
  return report::svg_file(report::stacked(panels));
}

}  // namespace kvasir::train

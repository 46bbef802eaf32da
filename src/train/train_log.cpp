#include "train/train_log.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"
#include "report/charts.h"

namespace kvasir::train {

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
      if (json.contains("loss") && json["loss"].is_number())
        losses_.emplace_back(json.value("step", int64_t{0}), json["loss"].get<double>());
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
  losses_.emplace_back(line.step, line.loss);
  nlohmann::ordered_json json{{"step", line.step},
                              {"loss", line.loss},
                              {"gradient_norm", line.gradient_norm},
                              {"learning_rate", line.learning_rate},
                              {"tokens", line.tokens},
                              {"tokens_per_second", std::round(line.tokens_per_second)}};
  if (line.utilisation > 0) json["utilisation"] = std::round(line.utilisation * 1e4) / 1e4;
  append(json.dump());
}

void TrainLog::write_value(int64_t step, const std::string& name, double value) {
  append(nlohmann::ordered_json{{"step", step}, {name, value}}.dump());
}

void TrainLog::draw() const { write_file(folder_ / "loss.svg", loss_svg(losses_)).value(); }

std::string loss_svg(const std::vector<std::pair<int64_t, double>>& losses) {
  report::LineChart chart;
  chart.title = "Training loss";
  chart.x.label = "step";
  chart.y.label = "nats per token";
  chart.series.emplace_back();
  // No more points than pixels can show.
  const size_t stride = std::max<size_t>(1, losses.size() / 2000);
  for (size_t i = 0; i < losses.size(); i += stride) {
    const auto& [step, loss] = losses[i];
    chart.series[0].points.push_back({.x = static_cast<double>(step), .y = loss});
  }
  return report::svg_file(report::draw(chart));
}

}  // namespace kvasir::train

#include "train/train_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/file.h"

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
  constexpr double kWidth = 640, kHeight = 320, kLeft = 52, kBottom = 28, kTop = 12, kRight = 12;
  double low = INFINITY, high = -INFINITY;
  for (const auto& [step, loss] : losses)
    if (std::isfinite(loss)) low = std::min(low, loss), high = std::max(high, loss);
  if (!(low <= high)) low = 0, high = 1;
  if (high - low < 1e-6) high = low + 1;
  const double last =
      losses.empty() ? 1 : std::max<double>(1, static_cast<double>(losses.back().first));
  const auto x = [&](double step) { return kLeft + step / last * (kWidth - kLeft - kRight); };
  const auto y = [&](double loss) {
    return kTop + (high - loss) / (high - low) * (kHeight - kTop - kBottom);
  };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" "
      "font-size=\"11\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  for (int i = 0; i <= 4; ++i) {
    const double loss = low + (high - low) * i / 4, step = last * i / 4;
    svg += fmt::format(
        "<line x1=\"{0}\" y1=\"{1:.1f}\" x2=\"{2}\" y2=\"{1:.1f}\" stroke=\"#ddd\"/>\n"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.2f}</text>\n"
        "<text x=\"{6:.1f}\" y=\"{7}\" text-anchor=\"middle\">{8:.0f}</text>\n",
        kLeft, y(loss), kWidth - kRight, kLeft - 6, y(loss) + 4, loss, x(step), kHeight - 10, step);
  }
  // No more points than pixels can show.
  const size_t stride = std::max<size_t>(1, losses.size() / 2000);
  svg += "<polyline fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\" points=\"";
  for (size_t i = 0; i < losses.size(); i += stride)
    if (std::isfinite(losses[i].second))
      svg += fmt::format("{:.1f},{:.1f} ", x(static_cast<double>(losses[i].first)),
                         y(losses[i].second));
  return svg + "\"/>\n</svg>\n";
}

}  // namespace kvasir::train

#include "eval/perplexity.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "eval/documents.h"
#include "report/table.h"
#include "tasks/perplexity.h"

namespace kvasir::eval {
namespace {

constexpr double kQuantile = 1.959963984540054;  // of the normal distribution, both sides 2.5 %

using Tokens = std::vector<TokenId>;

// Each begins with the model's begin token where texts do.
std::vector<Tokens> windows_of(const std::vector<std::string>& texts, const Engine& engine,
                               int64_t length, int64_t most) {
  std::vector<Tokens> windows;
  for (const std::string& text : texts) {
    Tokens tokens = engine.tokenize(text);
    const std::optional<TokenId> begin = engine.info().begin_token;
    const bool with_begin = begin && !tokens.empty() && tokens.front() == *begin;
    if (with_begin) tokens.erase(tokens.begin());
    for (const tasks::Window& window : tasks::perplexity_windows(
             std::ssize(tokens), length - with_begin, most - std::ssize(windows))) {
      Tokens& taken = windows.emplace_back();
      if (with_begin) taken.push_back(*begin);
      taken.insert(taken.end(), tokens.begin() + window.first,
                   tokens.begin() + window.first + window.count);
    }
  }
  if (windows.empty())
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected a text of at least {} tokens, found none", length),
                "--documents");
  return windows;
}

class PerplexityRun {
 public:
  PerplexityRun(const RunSetup& setup, Engine& engine, const RunHooks& hooks)
      : setup_(setup),
        engine_(engine),
        hooks_(hooks),
        progress_(hooks.progress, "scoring", Progress::Unit::kTokens) {}

  std::vector<PerplexityCell> run() {
    const std::vector<std::string> texts = load_documents(setup_.options.documents);
    const auto rows = static_cast<int64_t>(setup_.matrix.rows.size());
    std::vector<std::vector<Tokens>> windows;
    for (const int64_t length : setup_.options.lengths) {
      windows.push_back(windows_of(texts, engine_, length, setup_.options.sessions));
      // A row beside the first is scored by itself and against it.
      total_ += std::ssize(windows.back()) * length * (3 * rows - 2);
    }
    std::vector<PerplexityCell> cells;
    for (size_t i = 0; i < windows.size(); ++i) {
      const std::vector<double> first = nats(0, windows[i]);
      for (size_t row = 0; row < setup_.matrix.rows.size(); ++row)
        cells.push_back(make_cell(row, setup_.options.lengths[i], windows[i], first));
    }
    return cells;
  }

 private:
  Score score(const Tokens& window, const StageChoice& stages,
              const std::optional<StageChoice>& against) {
    Engine::ScoreOptions options;
    options.context = std::ssize(window);
    options.stages = stages;
    options.against = against;
    options.cancelled = hooks_.cancelled;
    const Score score = engine_.score(window, options);
    done_ += std::ssize(window) * (against ? 2 : 1);
    progress_.update(done_, total_);
    return score;
  }

  // Of each window.
  std::vector<double> nats(size_t row, const std::vector<Tokens>& windows) {
    std::vector<double> all;
    for (const Tokens& window : windows)
      all.push_back(
          score(window, setup_.matrix.rows[row].at(std::ssize(window)), std::nullopt).nll_sum);
    return all;
  }

  PerplexityCell make_cell(size_t row, int64_t length, const std::vector<Tokens>& windows,
                           const std::vector<double>& first) {
    const std::vector<double> own = row == 0 ? first : nats(row, windows);
    tasks::Perplexity perplexity;
    double sum = 0, squares = 0, divergence = 0;
    for (size_t i = 0; i < windows.size(); ++i) {
      const auto predictions = static_cast<int64_t>(windows[i].size()) - 1;
      perplexity.add(own[i], predictions);
      const double away = (own[i] - first[i]) / static_cast<double>(predictions);
      sum += away;
      squares += away * away;
      if (row > 0)
        divergence +=
            *score(windows[i], setup_.matrix.rows[0].at(length), setup_.matrix.rows[row].at(length))
                 .kl_sum;
    }
    const auto count = static_cast<double>(windows.size());
    PerplexityCell cell{.row = setup_.matrix.rows[row].name(),
                        .length = length,
                        .windows = std::ssize(windows),
                        .predictions = perplexity.predictions(),
                        .nats_per_token = perplexity.nats_per_token(),
                        .perplexity = perplexity.value(),
                        .mean_of_windows = perplexity.mean_of_windows(),
                        .difference = {},
                        .kl_per_token = {}};
    if (row == 0) return cell;
    const double mean = sum / count;
    const double variance =
        count > 1 ? std::max(0.0, (squares - count * mean * mean) / (count - 1)) : INFINITY;
    const double half = kQuantile * std::sqrt(variance / count);
    cell.difference = mean;
    cell.difference_interval = {mean - half, mean + half};
    cell.kl_per_token = divergence / static_cast<double>(perplexity.predictions());
    return cell;
  }

  const RunSetup& setup_;
  Engine& engine_;
  const RunHooks& hooks_;
  Progress progress_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

std::vector<PerplexityCell> run_perplexity(const RunSetup& setup, Engine& engine,
                                           const RunHooks& hooks) {
  note_refused(setup, hooks);
  return PerplexityRun(setup, engine, hooks).run();
}

std::string perplexity_table(const std::vector<PerplexityCell>& cells, size_t width) {
  report::Table table{.caption = {},
                      .columns = {{"methods", false},
                                  {"window"},
                                  {"windows"},
                                  {"perplexity"},
                                  {"nats"},
                                  {"minus first"},
                                  {"95 %"},
                                  {"KL"}},
                      .rows = {}};
  for (const PerplexityCell& cell : cells) {
    auto& row = table.rows.emplace_back(std::vector<report::Cell>{
        row_name(cell.row), report::count(cell.length), report::count(cell.windows),
        report::number(cell.perplexity, 3), report::number(cell.nats_per_token, 4)});
    if (!cell.difference) continue;
    row.push_back(report::number(*cell.difference, 4));
    row.emplace_back(fmt::format("{:+.4f} to {:+.4f}", cell.difference_interval.low,
                                 cell.difference_interval.high));
    row.emplace_back(fmt::format("{:.2g}", *cell.kl_per_token), *cell.kl_per_token);
  }
  return report::terminal_table(table, width);
}

std::string perplexity_json(const std::vector<PerplexityCell>& cells) {
  using Json = nlohmann::ordered_json;
  Json json{{"cells", Json::array()}};
  for (const PerplexityCell& cell : cells) {
    Json object{{"name", row_name(cell.row)},      {"prefill", cell.row.prefill},
                {"length", cell.length},           {"windows", cell.windows},
                {"predictions", cell.predictions}, {"nats_per_token", cell.nats_per_token},
                {"perplexity", cell.perplexity},   {"mean_of_windows", cell.mean_of_windows}};
    if (cell.difference) {
      object["difference"] = *cell.difference;
      object["difference_interval"] = {cell.difference_interval.low, cell.difference_interval.high};
      object["kl_per_token"] = *cell.kl_per_token;
    }
    json["cells"].push_back(std::move(object));
  }
  return json.dump(1);
}

}  // namespace kvasir::eval

#include "eval/reports.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "base/file.h"
#include "base/progress.h"
#include "eval/run_report.h"
#include "report/charts.h"
#include "report/page.h"
#include "report/text.h"

namespace kvasir::eval {
namespace {

using report::Cell;
using report::LineChart;
using report::NumberStyle;

constexpr size_t kMostLines = 5;  // of a chart: bands of more hide one another

// To be filled; colours go from 0 to 100 %.
report::HeatMap accuracy_map(std::string title, std::string description, std::string row_label,
                             std::string column_label) {
  return {.title = std::move(title),
          .description = std::move(description),
          .row_label = std::move(row_label),
          .column_label = std::move(column_label),
          .rows = {},
          .columns = {},
          .values = {},
          .texts = {},
          .style = NumberStyle::kPercent,
          .least = 0,
          .most = 1};
}

// What pages and Markdown are made of, section by section.
struct Sink {
  std::function<void(const std::string&)> section;
  std::function<void(const report::Table&)> table;
  std::function<void(const report::Drawing&)> drawing;
};

template <class T>
void add_new(std::vector<T>& values, const T& value) {
  if (std::ranges::find(values, value) == values.end()) values.push_back(value);
}

std::string interval_text(const report::Interval& interval,
                          const char* format = "{:.2f} to {:.2f}") {
  return fmt::format(fmt::runtime(format), interval.low, interval.high);
}

std::string task_label(const std::string& task) {
  if (task.empty()) return "mean";
  return task.starts_with("scbench_") ? task.substr(8) : task;
}

std::string length_label(int64_t length) {
  return length == 0 ? "from file"
                     : report::number_text(static_cast<double>(length), 1, NumberStyle::kTokens);
}

LineChart::Point point(double x, const SummaryCell* cell) {
  if (cell == nullptr) return {.x = x};
  return {.x = x, .y = cell->accuracy, .low = cell->interval.low, .high = cell->interval.high};
}

report::Axis axis_from_0(const char* label, NumberStyle style = NumberStyle::kPlain) {
  report::Axis axis;
  axis.label = label;
  axis.style = style;
  axis.least = 0;
  return axis;
}

report::Axis accuracy_axis() {
  report::Axis axis = axis_from_0("accuracy", NumberStyle::kPercent);
  axis.most = 1;
  return axis;
}

// A suite in one mode.
class Section {
 public:
  Section(const Summary& summary, std::string suite, Mode mode, Sink& sink)
      : summary_(summary),
        suite_(std::move(suite)),
        mode_(mode),
        sink_(sink),
        labels_(row_labels(summary.rows)) {
    for (const SummaryCell& cell : summary.cells) {
      if (cell.key.suite != suite_ || cell.key.mode != mode) continue;
      add_new(lengths_, cell.key.length);
      add_new(rows_, cell.row);
      if (!cell.key.task.empty()) add_new(tasks_, cell.key.task);
      if (cell.key.turn >= 0) add_new(turns_, cell.key.turn);
      if (cell.key.depth >= 0) add_new(depths_, cell.key.depth);
    }
    std::ranges::sort(lengths_);
    std::ranges::sort(turns_);
    std::ranges::sort(depths_);
  }

  void write() {
    for (const int64_t length : lengths_) {
      sink_.section(title(length));
      sink_.table(accuracies(length));
      if (rows_.size() > 1 && tasks_.size() > 1) sink_.drawing(matrix(length));
      if (turns_.size() > 1) by_turn(length);
      sink_.table(costs(length));
      if (rows_.size() > 1) against_costs(length);
    }
    if (lengths_.size() > 1) by_length();
    if (depths_.size() > 1) needle_grids();
  }

 private:
  std::string title(int64_t length) const {
    return fmt::format("{}{}, {}", suite_,
                       length > 0 ? fmt::format(", {} tokens", with_thousands(length)) : "",
                       mode_name(mode_));
  }

  const SummaryCell* find(size_t row, const std::string& task, int64_t length, int64_t turn = -1,
                          double depth = -1) const {
    return summary_.find(row, {.suite = suite_,
                               .task = task,
                               .length = length,
                               .mode = mode_,
                               .turn = turn,
                               .depth = depth});
  }

  report::Table accuracies(int64_t length) const {
    report::Table table{.caption =
                            "Accuracy with its 95 % interval, and the difference of the "
                            "mean from the first row's",
                        .columns = {{"methods", false}},
                        .rows = {}};
    for (const char* head : {"mean", "difference", "failed"}) table.columns.push_back({head});
    if (tasks_.size() > 1)
      for (const std::string& task : tasks_) table.columns.push_back({task_label(task)});
    else
      table.columns[1].head = task_label(tasks_.front());
    for (const size_t row : rows_) {
      std::vector<Cell> cells{labels_[row]};
      const SummaryCell* all = find(row, "", length);
      cells.push_back(accuracy(all));
      if (all == nullptr || row == 0)
        cells.emplace_back("");
      else
        cells.emplace_back(
            fmt::format("{:+.2f} ({})", all->difference,
                        interval_text(all->difference_interval, "{:+.2f} to {:+.2f}")),
            all->difference);
      cells.push_back(all ? report::count(all->errors) : Cell(""));
      if (tasks_.size() > 1)
        for (const std::string& task : tasks_) cells.push_back(accuracy(find(row, task, length)));
      table.rows.push_back(std::move(cells));
    }
    return table;
  }

  static Cell accuracy(const SummaryCell* cell) {
    if (cell == nullptr) return "";
    return {fmt::format("{:.2f} ({})", cell->accuracy, interval_text(cell->interval)),
            cell->accuracy};
  }

  report::Table costs(int64_t length) const {
    report::Table table{.caption =
                            "What methods cost: means over answered questions; KV is the "
                            "most of any session",
                        .columns = {{"methods", false},
                                    {"questions"},
                                    {"computed"},
                                    {"ttft ms, turn 1"},
                                    {"ttft ms, all"},
                                    {"ms a token"},
                                    {"cached tokens"},
                                    {"KV"}},
                        .rows = {}};
    for (const size_t row : rows_) {
      const SummaryCell *all = find(row, "", length), *first = find(row, "", length, 0);
      if (all == nullptr) continue;
      table.rows.push_back(
          {labels_[row], report::count(all->questions), report::percent(all->computed_fraction, 1),
           first ? report::number(1000 * first->ttft_seconds, 1) : Cell(""),
           report::number(1000 * all->ttft_seconds, 1),
           report::number(1000 * all->seconds_per_token, 2), report::number(all->cached_tokens, 0),
           Cell(as_bytes(all->kv_bytes), static_cast<double>(all->kv_bytes))});
    }
    return table;
  }

  report::Drawing matrix(int64_t length) const {
    report::HeatMap map =
        accuracy_map("Accuracy by method and task: " + title(length),
                     "Rows are methods, columns tasks, cells the accuracy.", "methods", "task");
    for (const std::string& task : tasks_) map.columns.push_back(task_label(task));
    map.columns.emplace_back("mean");
    for (const size_t row : rows_) {
      map.rows.push_back(labels_[row]);
      std::vector<double>& values = map.values.emplace_back();
      for (const std::string& task : tasks_) values.push_back(value(find(row, task, length)));
      values.push_back(value(find(row, "", length)));
    }
    return draw(map);
  }

  static double value(const SummaryCell* cell) { return cell ? cell->accuracy : report::kMissing; }

  // As many charts as it takes for each line to have a colour of its own; the first row, which
  // others are measured by, is in each.
  template <class AddPoints>
  void charts(LineChart chart, AddPoints&& add_points) {
    const std::string name = chart.title;
    const size_t each = kMostLines - 1;
    const size_t parts = rows_.size() <= kMostLines ? 1 : (rows_.size() - 1 + each - 1) / each;
    for (size_t part = 0; part < parts; ++part) {
      chart.series.clear();
      chart.title = parts == 1 ? name : fmt::format("{} ({} of {})", name, part + 1, parts);
      for (size_t i = 0; i < rows_.size(); ++i) {
        if (parts > 1 && i > 0 && (i - 1) / each != part) continue;
        chart.series.push_back({labels_[rows_[i]], {}});
        add_points(rows_[i], chart.series.back().points);
      }
      sink_.drawing(draw(chart));
    }
  }

  void by_turn(int64_t length) {
    LineChart chart;
    chart.title = "Accuracy by turn: " + title(length);
    chart.description = "A line a method, with the 95 % interval of each turn.";
    chart.x.label = "turn";
    chart.x.style = NumberStyle::kWhole;
    chart.y = accuracy_axis();
    charts(std::move(chart), [&](size_t row, auto& points) {
      for (const int64_t turn : turns_)
        points.push_back(point(static_cast<double>(turn + 1), find(row, "", length, turn)));
    });
  }

  void by_length() {
    sink_.section(fmt::format("{} by length, {}", suite_, mode_name(mode_)));
    LineChart chart;
    chart.title = "Accuracy by length: " + suite_;
    chart.description = "A line a method, with the 95 % interval of each length.";
    chart.x.label = "tokens";
    chart.x.is_log = true;
    chart.x.style = NumberStyle::kTokens;
    chart.y = accuracy_axis();
    charts(std::move(chart), [&](size_t row, auto& points) {
      for (const int64_t length : lengths_)
        points.push_back(point(static_cast<double>(length), find(row, "", length)));
    });
  }

  void against_costs(int64_t length) {
    struct Cost {
      const char* name;
      report::Axis axis;
      std::function<double(const SummaryCell&)> of;
    };
    const Cost kinds[] = {
        {"share of prefill attention that is computed",
         axis_from_0("computed", NumberStyle::kPercent),
         [](const SummaryCell& cell) { return cell.computed_fraction; }},
        {"KV of a session", axis_from_0("MiB"),
         [](const SummaryCell& cell) { return static_cast<double>(cell.kv_bytes) / (1 << 20); }},
        {"time of a question", axis_from_0("seconds, first token and decoding"),
         [](const SummaryCell& cell) { return cell.ttft_seconds + cell.decode_seconds; }}};
    for (const Cost& cost : kinds) {
      std::vector<double> values;
      for (const size_t row : rows_)
        if (const SummaryCell* cell = find(row, "", length)) add_new(values, cost.of(*cell));
      if (values.size() < 2) continue;  // all alike: nothing to see
      LineChart chart;
      chart.title = fmt::format("Accuracy against the {}: {}", cost.name, title(length));
      chart.description = "A mark a method, with the 95 % interval of its accuracy.";
      chart.x = cost.axis;
      if (chart.x.style == NumberStyle::kPercent)  // dense lies within, not on the edge
        chart.x.most = 1.02 * std::max(1.0, std::ranges::max(values));
      chart.y = accuracy_axis();
      charts(std::move(chart), [&](size_t row, auto& points) {
        if (const SummaryCell* cell = find(row, "", length))
          points.push_back(point(cost.of(*cell), cell));
      });
    }
  }

  void needle_grids() {
    sink_.section(fmt::format("{} by depth and length, {}", suite_, mode_name(mode_)));
    for (const size_t row : rows_) {
      report::HeatMap map =
          accuracy_map(fmt::format("Accuracy by depth and length: {}", labels_[row]),
                       "Rows are depths of the needle, columns lengths.", "depth", "tokens");
      for (const int64_t length : lengths_) map.columns.push_back(length_label(length));
      for (const double depth : depths_) {
        map.rows.push_back(fmt::format("{:.0f}%", 100 * depth));
        std::vector<double>& values = map.values.emplace_back();
        for (const int64_t length : lengths_)
          values.push_back(value(find(row, "", length, -1, depth)));
      }
      sink_.drawing(draw(map));
    }
  }

  const Summary& summary_;
  const std::string suite_;
  const Mode mode_;
  Sink& sink_;
  const std::vector<std::string> labels_;
  std::vector<int64_t> lengths_, turns_;
  std::vector<size_t> rows_;
  std::vector<std::string> tasks_;
  std::vector<double> depths_;
};

void write_sections(const Summary& summary, Sink& sink) {
  std::vector<std::pair<std::string, Mode>> groups;
  for (const SummaryCell& cell : summary.cells)
    add_new(groups, std::pair(cell.key.suite, cell.key.mode));
  for (const auto& [suite, mode] : groups) Section(summary, suite, mode, sink).write();
}

std::string lede(const Summary& summary) {
  int64_t questions = 0, errors = 0;
  for (const SummaryCell& cell : summary.cells)
    if (cell.key.task.empty() && cell.key.turn < 0 && cell.key.depth < 0) {
      questions += cell.questions;
      errors += cell.errors;
    }
  return fmt::format(
      "{} {} under {} {} of methods; {}. Accuracy is that of the strict scorers; every "
      "interval holds 95 %.",
      with_thousands(questions), questions == 1 ? "answer" : "answers", summary.rows.size(),
      summary.rows.size() == 1 ? "row" : "rows",
      errors == 0 ? "none failed"
                  : fmt::format("{} failed and count as wrong", with_thousands(errors)));
}

report::Table row_table(const Summary& summary) {
  report::Table table{.caption = {},
                      .columns = {{"row", false},
                                  {"prefill", false},
                                  {"compress", false},
                                  {"retrieve", false},
                                  {"loading", false}},
                      .rows = {}};
  const std::vector<std::string> labels = row_labels(summary.rows);
  for (size_t i = 0; i < labels.size(); ++i)
    table.rows.push_back({labels[i], summary.rows[i].prefill, summary.rows[i].compress,
                          summary.rows[i].retrieve, summary.rows[i].loading});
  return table;
}

Cell real(double value) { return {fmt::format("{:.4g}", value), value}; }

}  // namespace

report::Table cell_table(const Summary& summary) {
  report::Table table{.caption = {}, .columns = {}, .rows = {}};
  for (const char* head : {"suite", "task", "length", "mode", "turn", "depth", "prefill",
                           "compress", "retrieve", "loading"})
    table.columns.push_back({head, false});
  for (const char* head : {"sessions", "questions", "errors", "accuracy", "low", "high",
                           "published", "difference", "difference_low", "difference_high", "judged",
                           "prompt_tokens", "cached_tokens", "completion_tokens", "ttft_seconds",
                           "decode_seconds", "seconds_per_token", "computed_fraction", "kv_bytes"})
    table.columns.push_back({head});
  for (const SummaryCell& cell : summary.cells) {
    const MethodRow& row = summary.rows[cell.row];
    const CellKey& key = cell.key;
    table.rows.push_back({key.suite,
                          key.task.empty() ? Cell("all") : Cell(key.task),
                          report::count(key.length),
                          mode_name(key.mode),
                          key.turn < 0 ? Cell("all") : report::count(key.turn + 1),
                          key.depth < 0 ? Cell("all") : real(key.depth),
                          row.prefill,
                          row.compress,
                          row.retrieve,
                          row.loading,
                          report::count(cell.sessions),
                          report::count(cell.questions),
                          report::count(cell.errors),
                          real(cell.accuracy),
                          real(cell.interval.low),
                          real(cell.interval.high),
                          real(cell.published),
                          real(cell.difference),
                          real(cell.difference_interval.low),
                          real(cell.difference_interval.high),
                          cell.is_judged ? "yes" : "no",
                          real(cell.prompt_tokens),
                          real(cell.cached_tokens),
                          real(cell.completion_tokens),
                          real(cell.ttft_seconds),
                          real(cell.decode_seconds),
                          real(cell.seconds_per_token),
                          real(cell.computed_fraction),
                          report::count(cell.kv_bytes)});
  }
  return table;
}

std::string report_html(const Summary& summary, const std::string& title) {
  report::Page page(title, lede(summary));
  page.section("Methods");
  page.table(row_table(summary));
  Sink sink{.section = [&](const std::string& text) { page.section(text); },
            .table = [&](const report::Table& table) { page.table(table); },
            .drawing = [&](const report::Drawing& drawing) { page.drawing(drawing); }};
  write_sections(summary, sink);
  page.section("Every cell");
  page.table(cell_table(summary));
  return page.html();
}

std::string report_markdown(const Summary& summary, const std::string& title) {
  std::string text = fmt::format("# {}\n\n{}\n\n{}", title, lede(summary),
                                 report::markdown_table(row_table(summary)));
  Sink sink{.section = [&](const std::string& heading) { text += "\n## " + heading + "\n"; },
            .table = [&](const report::Table& table) { text += "\n" + markdown_table(table); },
            .drawing = [](const report::Drawing&) {}};
  write_sections(summary, sink);
  return text;
}

void write_report(std::span<const Outcome> outcomes, const std::filesystem::path& file,
                  const std::string& title) {
  const std::string extension = file.extension().string();
  if (extension != ".html" && extension != ".md" && extension != ".csv" && extension != ".json")
    throw Error(ErrorCode::kInvalidArgument, "expected *.html, *.md, *.csv or *.json",
                file.string());
  if (outcomes.empty())
    throw Error(ErrorCode::kInvalidArgument, "expected outcomes, found none", title);
  const Summary summary = summarize(outcomes);
  write_file(file, extension == ".html"  ? report_html(summary, title)
                   : extension == ".md"  ? report_markdown(summary, title)
                   : extension == ".csv" ? report::csv_table(cell_table(summary))
                                         : summary_json(summary) + "\n")
      .value();
}

std::string run_title(const std::filesystem::path& folder) {
  return "Benchmark " + std::filesystem::absolute(folder / "")
                            .lexically_normal()
                            .parent_path()
                            .filename()
                            .string();
}

void write_reports(std::span<const Outcome> outcomes, const std::filesystem::path& folder) {
  for (const char* name : {"report.html", "report.md", "report.csv", "report.json"})
    write_report(outcomes, folder / name, run_title(folder));
}

}  // namespace kvasir::eval

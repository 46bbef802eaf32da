#include "eval/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "report/table.h"

namespace kvasir::eval {
namespace {

// Marks what differs from the first row, where that may be judged.
report::Cell accuracy_cell(const SummaryCell* cell) {
  if (cell == nullptr) return "";
  const report::Interval& away = cell->difference_interval;
  const bool differs = cell->is_judged && (away.low > 0 || away.high < 0);
  return {fmt::format("{:.2f}{}", cell->accuracy, differs ? "*" : " "), cell->accuracy};
}

MethodRow without_options(MethodRow row) {
  for (std::string* method : {&row.prefill, &row.compress, &row.retrieve, &row.loading})
    method->resize(std::min(method->size(), method->find(':')));
  return row;
}

// Rows as tables name them: without options, where that leaves them apart.
std::vector<std::string> labels_of(const std::vector<MethodRow>& rows) {
  std::vector<std::string> labels;
  for (const MethodRow& row : rows) {
    const auto is_like = [&](const MethodRow& other) {
      return without_options(other) == without_options(row);
    };
    labels.push_back(
        row_name(std::ranges::count_if(rows, is_like) == 1 ? without_options(row) : row));
  }
  return labels;
}

// What a group's keys have in common: suite, length, mode.
bool is_same_group(const CellKey& a, const CellKey& b) {
  return a.suite == b.suite && a.length == b.length && a.mode == b.mode;
}

std::string group_title(const CellKey& key) {
  return fmt::format("{}{}, {}", key.suite,
                     key.length > 0 ? fmt::format(", {} tokens", with_thousands(key.length)) : "",
                     mode_name(key.mode));
}

class GroupTables {
 public:
  GroupTables(const Summary& summary, const CellKey& group, const std::vector<std::string>& labels)
      : summary_(summary), group_(group), labels_(labels) {
    const auto add = [](auto& values, const auto& value) {
      if (std::ranges::find(values, value) == values.end()) values.push_back(value);
    };
    for (const SummaryCell& cell : summary.cells) {
      if (!is_same_group(cell.key, group)) continue;
      if (!cell.key.task.empty()) add(tasks_, cell.key.task);
      if (cell.key.turn >= 0) add(turns_, cell.key.turn);
      if (cell.key.depth >= 0) add(depths_, cell.key.depth);
      add(rows_, cell.row);
    }
  }

  report::Table by_task() const {
    report::Table table{.caption = {}, .columns = {{"methods", false}}, .rows = {}};
    for (const std::string& task : tasks_)
      table.columns.push_back({task.starts_with("scbench_") ? task.substr(8) : task});
    table.columns.push_back({"mean"});
    table.columns.push_back({"difference"});
    for (const size_t row : rows_) {
      auto& cells = table.rows.emplace_back();
      cells.emplace_back(labels_[row]);
      for (const std::string& task : tasks_) cells.push_back(accuracy_cell(find(row, task)));
      const SummaryCell& all = *find(row, "");
      cells.push_back(accuracy_cell(&all));
      if (row == 0) continue;
      cells.emplace_back(
          fmt::format("{:+.2f}…{:+.2f}", all.difference_interval.low, all.difference_interval.high),
          all.difference);
    }
    return table;
  }

  report::Table by_turn() const {
    report::Table table{.caption = {}, .columns = {{"methods", false}}, .rows = {}};
    for (const int64_t turn : turns_) table.columns.push_back({fmt::format("turn {}", turn + 1)});
    for (const double depth : depths_)
      table.columns.push_back({fmt::format("{:.0f} %", 100 * depth)});
    for (const char* head : {"computed", "ttft ms", "later ms", "ms/token", "KV", "failed"})
      table.columns.push_back({head});
    for (const size_t row : rows_) {
      auto& cells = table.rows.emplace_back();
      cells.emplace_back(labels_[row]);
      for (const int64_t turn : turns_) cells.push_back(accuracy_cell(find(row, "", turn)));
      for (const double depth : depths_) cells.push_back(accuracy_cell(find(row, "", -1, depth)));
      add_costs(row, cells);
    }
    return table;
  }

 private:
  const SummaryCell* find(size_t row, const std::string& task, int64_t turn = -1,
                          double depth = -1) const {
    CellKey key = group_;
    key.task = task;
    key.turn = turn;
    key.depth = depth;
    return summary_.find(row, key);
  }

  void add_costs(size_t row, std::vector<report::Cell>& cells) const {
    const SummaryCell &all = *find(row, ""), *first = find(row, "", 0);
    double later = 0, count = 0;
    for (const int64_t turn : turns_)
      if (const SummaryCell* cell = turn > 0 ? find(row, "", turn) : nullptr) {
        later += cell->ttft_seconds * static_cast<double>(cell->questions);
        count += static_cast<double>(cell->questions);
      }
    cells.push_back(report::percent(all.computed_fraction, 0));
    cells.push_back(report::number(1000 * (first ? first->ttft_seconds : 0), 1));
    cells.push_back(count > 0 ? report::number(1000 * later / count, 1) : report::Cell(""));
    cells.push_back(report::number(1000 * all.seconds_per_token, 2));
    cells.emplace_back(as_bytes(all.kv_bytes), static_cast<double>(all.kv_bytes));
    cells.push_back(report::count(all.errors));
  }

  const Summary& summary_;
  CellKey group_;
  const std::vector<std::string>& labels_;
  std::vector<std::string> tasks_;
  std::vector<int64_t> turns_;
  std::vector<double> depths_;
  std::vector<size_t> rows_;
};

nlohmann::ordered_json interval_json(const report::Interval& interval) {
  return nlohmann::ordered_json::array({interval.low, interval.high});
}

}  // namespace

std::string summary_tables(const Summary& summary, size_t width) {
  std::string text;
  const CellKey* last = nullptr;
  const std::vector<std::string> labels = labels_of(summary.rows);
  bool has_judged = false;
  for (const SummaryCell& cell : summary.cells) {
    has_judged = has_judged || cell.is_judged;
    if (last && is_same_group(cell.key, *last)) continue;
    last = &cell.key;
    CellKey group{
        .suite = cell.key.suite, .task = {}, .length = cell.key.length, .mode = cell.key.mode};
    const GroupTables tables(summary, group, labels);
    text += fmt::format("{}{}\n\n{}\n{}", text.empty() ? "" : "\n", group_title(group),
                        report::terminal_table(tables.by_task(), width),
                        report::terminal_table(tables.by_turn(), width));
  }
  if (text.empty()) return text;
  text += '\n';
  for (size_t row = 0; row < labels.size(); ++row)
    if (labels[row] != row_name(summary.rows[row]))
      text += fmt::format("{} is {}\n", labels[row], row_name(summary.rows[row]));
  return text +
         "Accuracy by the strict scorers; difference: of the mean from the first row's, 95 %.\n" +
         (has_judged
              ? "*: differs, where the first row reaches 0.95 on at least 200 questions.\n"
              : "Nothing is judged: the first row reaches 0.95 on 200 questions nowhere.\n") +
         "ttft: from a question's first step to its first token, beside whatever else ran; later: "
         "of "
         "turns\nbehind the first.\n";
}

std::string summary_json(const Summary& summary) {
  using Json = nlohmann::ordered_json;
  Json json{{"rows", Json::array()}, {"cells", Json::array()}};
  for (const MethodRow& row : summary.rows)
    json["rows"].push_back({{"name", row_name(row)},
                            {"prefill", row.prefill},
                            {"compress", row.compress},
                            {"retrieve", row.retrieve},
                            {"loading", row.loading}});
  for (const SummaryCell& cell : summary.cells)
    json["cells"].push_back({{"row", cell.row},
                             {"suite", cell.key.suite},
                             {"task", cell.key.task},
                             {"length", cell.key.length},
                             {"mode", mode_name(cell.key.mode)},
                             {"turn", cell.key.turn},
                             {"depth", cell.key.depth},
                             {"sessions", cell.sessions},
                             {"questions", cell.questions},
                             {"errors", cell.errors},
                             {"accuracy", cell.accuracy},
                             {"interval", interval_json(cell.interval)},
                             {"published", cell.published},
                             {"difference", cell.difference},
                             {"difference_interval", interval_json(cell.difference_interval)},
                             {"judged", cell.is_judged},
                             {"prompt_tokens", cell.prompt_tokens},
                             {"cached_tokens", cell.cached_tokens},
                             {"completion_tokens", cell.completion_tokens},
                             {"ttft_seconds", cell.ttft_seconds},
                             {"decode_seconds", cell.decode_seconds},
                             {"seconds_per_token", cell.seconds_per_token},
                             {"computed_fraction", cell.computed_fraction},
                             {"kv_bytes", cell.kv_bytes}});
  return json.dump(1);
}

}  // namespace kvasir::eval

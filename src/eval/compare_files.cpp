// Comparisons of what lies on disk, as text.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "eval/compare.h"
#include "eval/outcome_file.h"
#include "eval/run_report.h"
#include "formats/json_text.h"
#include "report/table.h"

namespace kvasir::eval {
namespace {

using Json = nlohmann::ordered_json;
using report::Cell;

Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

std::string shown(const ComparedCell& cell, double value) {
  return cell.figure == "accuracy" ? fmt::format("{:.3f}", value)
                                   : fmt::format("{:.3g} ms", 1000 * value);
}

std::string change_of(const ComparedCell& cell) {
  const Difference& found = cell.difference;
  if (cell.figure == "accuracy")
    return fmt::format("{:+.3f} ({:+.3f} to {:+.3f})", found.value, found.interval.low,
                       found.interval.high);
  if (!std::isfinite(found.interval.high)) return fmt::format("x {:.3f}", found.value);
  return fmt::format("x {:.3f} ({:.3f} to {:.3f})", found.value, found.interval.low,
                     found.interval.high);
}

report::Table table_of(const Comparison& comparison) {
  report::Table table{.caption = {},
                      .columns = {{"methods", false},
                                  {"task", false},
                                  {"tokens"},
                                  {"mode", false},
                                  {"figure", false},
                                  {"n"},
                                  {"first"},
                                  {"second"},
                                  {"change, 95 %"},
                                  {"p, Holm"},
                                  {"verdict", false}},
                      .rows = {}};
  for (const ComparedCell& cell : comparison.cells)
    table.rows.push_back(
        {row_name(cell.row), cell.suite == cell.task ? cell.task : cell.suite + " " + cell.task,
         cell.length > 0 ? report::count(cell.length) : Cell(""), mode_name(cell.mode), cell.figure,
         report::count(cell.questions), Cell(shown(cell, cell.first), cell.first),
         Cell(shown(cell, cell.second), cell.second),
         Cell(change_of(cell) + (cell.is_paired ? "" : " unpaired"), cell.difference.value),
         fmt::format("{:.2g}", cell.adjusted_p), verdict_name(cell.verdict)});
  return table;
}

Json json_of(const Comparison& comparison) {
  Json json{{"comparison", "outcomes"},
            {"cells", Json::array()},
            {"notes", comparison.notes},
            {"adjustment", "Holm"},
            {"level", 0.05}};
  for (const ComparedCell& cell : comparison.cells)
    json["cells"].push_back(
        {{"prefill", cell.row.prefill},
         {"compress", cell.row.compress},
         {"retrieve", cell.row.retrieve},
         {"loading", cell.row.loading},
         {"suite", cell.suite},
         {"task", cell.task},
         {"length", cell.length},
         {"mode", mode_name(cell.mode)},
         {"figure", cell.figure},
         {"paired", cell.is_paired},
         {"questions", cell.questions},
         {"first", cell.first},
         {"second", cell.second},
         {"change", cell.difference.value},
         {"interval", Json::array({number_json(cell.difference.interval.low),
                                   number_json(cell.difference.interval.high)})},
         {"p", cell.difference.p},
         {"adjusted_p", cell.adjusted_p},
         {"verdict", cell.verdict == Verdict::kSame ? "same" : verdict_name(cell.verdict)}});
  return json;
}

// A file's JSON object; nothing where it is none.
Json object_of(const std::filesystem::path& file) {
  const Result<std::string> text = read_file(file);
  if (!text) return nullptr;
  const Json json = Json::parse(text.value(), nullptr, false);
  return json.is_object() ? json : Json(nullptr);
}

// What two runs were asked for, where that is apart.
std::vector<std::string> configuration_notes(const std::filesystem::path& first,
                                             const std::filesystem::path& second) {
  const Json a = object_of(first / "run.json"), b = object_of(second / "run.json");
  std::vector<std::string> notes;
  if (!a.is_object() || !b.is_object()) return notes;
  for (const auto& [key, value] : a.items())
    if (b.contains(key) && b[key] != value && key != "rows")
      notes.push_back(fmt::format("{}: {} and {}", key, value.dump(), b[key].dump()));
  return notes;
}

// Of one line of a record, or none where it was not timed.
struct Times {
  double median = 0, least = 0, most = 0;
  int64_t repetitions = 0;
};

Times times_of(const Json& line, const std::string& origin) {
  if (!line.contains("seconds")) return {};
  return formats::read_json<Times>(line.dump(), origin, "times of a line",
                                   [](const nlohmann::json& json, const std::string&) {
                                     const auto& seconds = json.at("seconds");
                                     return Times{seconds.at("median").get<double>(),
                                                  seconds.at("min").get<double>(),
                                                  seconds.at("max").get<double>(),
                                                  seconds.at("repetitions").get<int64_t>()};
                                   })
      .value();
}

ComparisonText compare_records(const Json& first, const Json& second, const std::string& origin_a,
                               const std::string& origin_b, size_t width) {
  report::Table table{.caption = {},
                      .columns = {{"line", false},
                                  {"first ms"},
                                  {"second ms"},
                                  {"ratio"},
                                  {"at most apart"},
                                  {"verdict", false}},
                      .rows = {}};
  Json json{{"comparison", "speed"}, {"lines", Json::array()}, {"notes", Json::array()}};
  if (first["benchmark"] != second["benchmark"])
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("expected records of the same benchmark, found {} and {}",
                            first["benchmark"].dump(), second["benchmark"].dump()),
                "kvasir bench compare");
  for (const char* key : {"machine", "device", "isa", "threads", "compiler"})
    if (first.value(key, Json()) != second.value(key, Json()))
      json["notes"].push_back(fmt::format("{}: {} and {}", key, first.value(key, Json()).dump(),
                                          second.value(key, Json()).dump()));
  for (const Json& line : first["lines"])
    for (const Json& other : second["lines"]) {
      if (!line.is_object() || !other.is_object() || !line.contains("name") ||
          line["name"] != other.value("name", Json()) || !line["name"].is_string())
        continue;
      const Times a = times_of(line, origin_a), b = times_of(other, origin_b);
      if (a.least <= 0 || b.least <= 0) continue;
      const double low = b.least / a.most, high = b.most / a.least;
      const Verdict verdict = high < 1  ? Verdict::kBetter
                              : low > 1 ? Verdict::kWorse
                                        : Verdict::kSame;
      const double ratio = b.median / a.median;
      table.rows.push_back({line["name"].get<std::string>(), report::number(1000 * a.median, 3),
                            report::number(1000 * b.median, 3), report::number(ratio, 3),
                            fmt::format("{:.3f} to {:.3f}", low, high), verdict_name(verdict)});
      json["lines"].push_back(
          {{"name", line["name"]},
           {"first", a.median},
           {"second", b.median},
           {"ratio", ratio},
           {"spread", Json::array({low, high})},
           {"verdict", verdict == Verdict::kSame ? "same" : verdict_name(verdict)}});
    }
  if (table.rows.empty())
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("expected records with timed lines in common with {}, found none", origin_a),
        origin_b);
  std::string text = report::terminal_table(table, width) + "\n";
  for (const Json& note : json["notes"]) text += note.get<std::string>() + "\n";
  text += fmt::format(
      "{} lines were compared; one differs where no repetition of the one run is as fast as any of "
      "the other.\n",
      table.rows.size());
  return {text, json.dump(1)};
}

bool is_record(const Json& json) {
  return json.is_object() && json.contains("benchmark") && json.contains("lines") &&
         json["lines"].is_array();
}

}  // namespace

ComparisonText compare_files(const std::filesystem::path& first,
                             const std::filesystem::path& second, size_t width) {
  const Json a = object_of(first), b = object_of(second);
  if (is_record(a) && is_record(b))
    return compare_records(a, b, first.string(), second.string(), width);
  if (is_record(a) || is_record(b))
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("expected two runs or two records of speed, found one of each: {}, {}",
                            first.string(), second.string()),
                "kvasir bench compare");
  const OutcomeFile of_a = read_outcomes(first).value(), of_b = read_outcomes(second).value();
  Comparison comparison = compare(of_a.outcomes, of_b.outcomes).value();
  for (const std::string& notice : {of_a.notice, of_b.notice})
    if (!notice.empty()) comparison.notes.push_back(notice);
  const std::vector<std::string> apart = configuration_notes(first, second);
  comparison.notes.insert(comparison.notes.end(), apart.begin(), apart.end());
  std::string text = report::terminal_table(table_of(comparison), width) + "\n";
  int64_t better = 0, worse = 0;
  for (const ComparedCell& cell : comparison.cells) {
    better += cell.verdict == Verdict::kBetter;
    worse += cell.verdict == Verdict::kWorse;
  }
  for (const std::string& note : comparison.notes) text += note + "\n";
  text += fmt::format(
      "{} cells were compared: {} better, {} worse. Verdicts hold for all of them together with 95 "
      "% (Holm); intervals for each by itself. Times of one run each: what else the machine did is "
      "in them.\n",
      comparison.cells.size(), better, worse);
  return {text, json_of(comparison).dump(1)};
}

}  // namespace kvasir::eval

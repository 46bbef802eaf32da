#include "bench/task_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>

#include "base/method.h"
#include "bench/build_info.h"
#include "engine/stages.h"
#include "report/interval.h"
#include "report/table.h"
#include "tasks/haystack.h"
#include "tasks/registry.h"
#include "tasks/score.h"

namespace kvasir::bench {
namespace {

constexpr int kTurns = 4;  // questions of a document
constexpr double kLeastDense = 0.95;
constexpr int64_t kLeastQuestions = 200;

tasks::Haystack load_books(const std::filesystem::path& path) {
  if (path.empty()) return tasks::Haystack::made_up();
  std::vector<std::filesystem::path> files{path};
  if (std::filesystem::is_directory(path)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.path().extension() == ".txt") files.push_back(entry.path());
    std::ranges::sort(files);
  }
  return tasks::Haystack::load(files).value();
}

struct Finished {
  std::string text;
  AttentionReport attention;
  double prefill_seconds = 0;
};

Finished wait_for(Answer answer) {
  Finished finished;
  Event event;
  while (answer.next(event)) {
    finished.text += event.text;
    if (event.kind != Event::Kind::kFinished) continue;
    if (event.error) throw *event.error;
    finished.attention = event.attention;
    finished.prefill_seconds = event.timing.prefill_seconds;
  }
  return finished;
}

class TaskBench {
 public:
  TaskBench(const TaskBenchOptions& options, std::ostream& progress)
      : options_(options),
        progress_(progress),
        haystack_(load_books(options.books)),
        engine_(Engine::load(engine_options(options))) {
    methods_.push_back({"dense", {}});
    for (const MethodChoice& method : options.methods)
      if (method.name != "dense") methods_.push_back(method);
  }

  TaskReport run() {
    TaskReport report{.model = engine_->info().path,
                      .device = engine_->info().device_name,
                      .books = options_.books.empty() ? "made-up prose" : options_.books.string(),
                      .seed = options_.seed,
                      .question_inside = options_.question_inside};
    for (const std::string& task : names())
      for (const int64_t length : lengths(options_)) {
        const std::vector<TaskCell> cells = run_task(task, length);
        report.cells.insert(report.cells.end(), cells.begin(), cells.end());
      }
    return report;
  }

 private:
  static std::vector<int64_t> lengths(const TaskBenchOptions& options) {
    return options.lengths.empty() ? std::vector<int64_t>{4096, 16384} : options.lengths;
  }
  static EngineOptions engine_options(const TaskBenchOptions& options) {
    EngineOptions engine = options.engine;
    constexpr int64_t kRoom = 512;  // questions and answers
    if (engine.context == 0) engine.context = std::ranges::max(lengths(options)) + kRoom;
    for (const MethodChoice& method : options.methods)
      if (method.name != "dense") engine.prefill = method;
    return engine;
  }
  std::vector<std::string> names() const {
    if (!options_.tasks.empty()) return options_.tasks;
    std::vector<std::string> names;
    for (const tasks::Task& task : tasks::find_suite("tasks").value()->tasks)
      names.emplace_back(task.name);
    return names;
  }

  // [methods]
  std::vector<TaskCell> run_task(const std::string& name, int64_t length) {
    const tasks::Task& task = *tasks::find_task("tasks", name).value();
    const auto generator =
        tasks::make_generator("tasks", name,
                              {.target_tokens = length,
                               .count =
                                   [this](std::string_view text) {
                                     return std::ssize(engine_->tokenize(text, false, false));
                                   },
                               .turns = kTurns,
                               .haystack = &haystack_,
                               .key_space = tasks::KeySpace::kEvaluation,
                               .question_inside = options_.question_inside})
            .value();
    std::vector<TaskCell> cells(methods_.size());
    std::vector<int64_t> gained(methods_.size()), lost(methods_.size());
    const int64_t documents = (options_.questions + kTurns - 1) / kTurns;
    for (int64_t document = 0; document < documents; ++document) {
      const tasks::Sample sample =
          generator->sample(options_.seed, static_cast<uint64_t>(document)).value();
      std::vector<bool> of_dense;
      for (size_t method = 0; method < methods_.size(); ++method) {
        const std::vector<bool> right = ask(task, sample, methods_[method], cells[method]);
        if (method == 0) of_dense = right;
        for (size_t turn = 0; turn < right.size(); ++turn) {
          ++cells[method].questions;
          cells[method].right += right[turn];
          gained[method] += right[turn] && !of_dense[turn];
          lost[method] += !right[turn] && of_dense[turn];
        }
      }
      progress_ << fmt::format("{}, {} tokens: {} of {} documents\n", name, length, document + 1,
                               documents);
    }
    for (size_t method = 0; method < methods_.size(); ++method)
      finish(name, length, method, documents, gained[method], lost[method], cells);
    return cells;
  }

  // Which questions of the sample are answered right.
  std::vector<bool> ask(const tasks::Task& task, const tasks::Sample& sample,
                        const MethodChoice& method, TaskCell& cell) {
    std::vector<bool> right;
    for (const tasks::Turn& turn : sample.turns) {
      const std::vector<ChatMessage> messages{{"system", sample.context}, {"user", turn.question}};
      Request request{.prompt = engine_->tokenize_chat(messages, true),
                      .max_tokens = tasks::new_tokens_of(task, sample, turn),
                      .stages = {.prefill = method}};
      const Finished finished = wait_for(engine_->submit(std::move(request)));
      if (right.empty()) {  // later ones find the document's KV
        cell.computed += finished.attention.computed_fraction;
        cell.seconds += finished.prefill_seconds;
      }
      const double score =
          tasks::score(tasks::scorer_of(task, sample, turn), {.prediction = finished.text,
                                                              .turn = turn,
                                                              .scoring = tasks::Scoring::kStrict,
                                                              .functions = sample.functions})
              .value();
      right.push_back(score >= 1);
    }
    return right;
  }

  void finish(const std::string& task, int64_t length, size_t method, int64_t documents,
              int64_t gained, int64_t lost, std::vector<TaskCell>& cells) const {
    TaskCell& cell = cells[method];
    const auto questions = static_cast<double>(cell.questions);
    cell.task = task;
    cell.method = method_text(methods_[method]);
    cell.length = length;
    const report::Interval own = report::wilson_interval(cell.right, cell.questions);
    cell.low = own.low;
    cell.high = own.high;
    cell.difference = static_cast<double>(gained - lost) / questions;
    if (method > 0) {
      const report::Interval paired = report::paired_interval(gained, lost, cell.questions);
      cell.difference_low = paired.low;
      cell.difference_high = paired.high;
    }
    cell.computed /= static_cast<double>(documents);
    cell.seconds /= static_cast<double>(documents);
    cell.is_judged = cells[0].questions >= kLeastQuestions &&
                     static_cast<double>(cells[0].right) >= kLeastDense * questions;
  }

  const TaskBenchOptions& options_;
  std::ostream& progress_;
  const tasks::Haystack haystack_;
  std::unique_ptr<Engine> engine_;
  std::vector<MethodChoice> methods_;
};

}  // namespace

TaskReport run_task_bench(const TaskBenchOptions& options, std::ostream& progress) {
  for (const MethodChoice& method : options.methods)
    engine::check_stages({.prefill = method}, {}).value();
  for (const std::string& task : options.tasks) tasks::find_task("tasks", task).value();
  return TaskBench(options, progress).run();
}

std::string task_table(const TaskReport& report) {
  report::Table table{.caption = {},
                      .columns = {{"task", false},
                                  {"tokens"},
                                  {"method", false},
                                  {"right"},
                                  {"95 %"},
                                  {"minus dense"},
                                  {"95 %"},
                                  {"computed"},
                                  {"prefill s"},
                                  {"judged", false}},
                      .rows = {}};
  for (const TaskCell& cell : report.cells) {
    const bool is_dense = cell.method == "dense";
    const double share = static_cast<double>(cell.right) / static_cast<double>(cell.questions);
    table.rows.push_back(
        {cell.task, report::count(cell.length), cell.method, report::number(share, 3),
         fmt::format("{:.3f} to {:.3f}", cell.low, cell.high),
         is_dense ? report::Cell("") : report::number(cell.difference, 3),
         is_dense ? report::Cell("")
                  : report::Cell(fmt::format("{:+.3f} to {:+.3f}", cell.difference_low,
                                             cell.difference_high)),
         report::percent(cell.computed, 1), report::number(cell.seconds, 3),
         cell.is_judged ? "yes" : "no"});
  }
  return report::terminal_table(table, 120);
}

std::string task_json(const TaskReport& report) {
  nlohmann::ordered_json json{{"benchmark", "tasks"},
                              {"model", report.model},
                              {"device", report.device},
                              {"commit", kBuildCommit},
                              {"books", report.books},
                              {"seed", report.seed},
                              {"question_inside", report.question_inside},
                              {"cells", nlohmann::ordered_json::array()}};
  for (const TaskCell& cell : report.cells)
    json["cells"].push_back({{"task", cell.task},
                             {"length", cell.length},
                             {"method", cell.method},
                             {"questions", cell.questions},
                             {"right", cell.right},
                             {"interval", {cell.low, cell.high}},
                             {"minus_dense", cell.difference},
                             {"minus_dense_interval", {cell.difference_low, cell.difference_high}},
                             {"computed_fraction", cell.computed},
                             {"prefill_seconds", cell.seconds},
                             {"judged", cell.is_judged}});
  return json.dump(1);
}

}  // namespace kvasir::bench

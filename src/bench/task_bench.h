#pragma once
// Accuracy of prefill methods on the five text tasks, beside dense prefill of the same questions:
// `kvasir bench tasks`.

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "kvasir/engine.h"

namespace kvasir::bench {

struct TaskBenchOptions {
  EngineOptions engine;
  std::vector<std::string> tasks;     // of the suite "tasks"; empty = all five
  std::vector<int64_t> lengths;       // tokens of a sample; empty = 4,096 and 16,384
  std::vector<MethodChoice> methods;  // beside dense, which always runs first
  int64_t questions = 300;            // of each task and length, at least
  bool question_inside = false;       // the questions also stand in the document
  std::filesystem::path books;        // a text or a folder of texts; empty = made-up prose
  uint64_t seed = 1;
};

// A method on a task at a length.
struct TaskCell {
  std::string task, method;
  int64_t length = 0, questions = 0, right = 0;
  double low = 0, high = 1;  // 95 % interval of the accuracy (Wilson)
  // Accuracy minus dense, of the same questions, with its 95 % interval (Agresti and Min 2005).
  double difference = 0, difference_low = 0, difference_high = 0;
  double computed = 0;  // share of the document's attention, mean
  double seconds = 0;   // of a document's prefill, mean
  // Whether dense is good enough, and the questions are many enough, to judge by (0.95 and 200).
  bool is_judged = false;
};

struct TaskReport {
  std::string model, device, books;
  uint64_t seed = 0;
  bool question_inside = false;
  std::vector<TaskCell> cells;
};

// A document is read once for each method and asked several questions, each in a request of its own
// that takes the document's KV over. Answers are greedy and have to be the reference to the letter
// (scorer of the task, strict). Progress goes to `progress`. Throws Error.
TaskReport run_task_bench(const TaskBenchOptions& options, std::ostream& progress);

std::string task_table(const TaskReport& report);  // for a terminal
std::string task_json(const TaskReport& report);

}  // namespace kvasir::bench

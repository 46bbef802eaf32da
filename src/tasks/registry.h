#pragma once
// All suites and their tasks by name, for programs that run them.

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tasks/task.h"

namespace kvasir::tasks {

// What a task may need from outside.
struct TaskFiles {
  std::filesystem::path data_folder;  // SCBench's published files; squad.json and hotpot.json
};

struct Task {
  std::string_view name;
  std::string_view scorer;
  int new_tokens = 0;       // most of an answer
  bool needs_file = false;  // there is no generator: samples come from a file
  bool needs_haystack = false;
};

struct Suite {
  std::string_view name;  // "tasks", "tiny", "ruler", "scbench", "needle"
  std::string_view about;
  std::vector<Task> tasks;
};

const std::vector<Suite>& suites();
// Errors: kNotFound, naming what there is.
Result<const Suite*> find_suite(std::string_view name);
Result<const Task*> find_task(std::string_view suite, std::string_view task);

// A generator of a task, or one that gives the samples of a published file in their order (`index`
// is the row; kResourceExhausted behind the last). SCBench's files are taken where `files` names a
// folder, its generators otherwise. Errors: kNotFound (suite, task or file), and those of the
// task's own maker.
Result<std::unique_ptr<Generator>> make_generator(std::string_view suite, std::string_view task,
                                                  const GeneratorOptions& options,
                                                  const TaskFiles& files = {});
// The scorer and the most new tokens of one turn of a suite's sample: mixes have several.
std::string_view scorer_of(const Task& task, const Sample& sample, const Turn& turn);
int new_tokens_of(const Task& task, const Sample& sample, const Turn& turn);

}  // namespace kvasir::tasks

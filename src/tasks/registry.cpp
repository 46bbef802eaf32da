#include "tasks/registry.h"

#include "tasks/ruler.h"
#include "tasks/scbench.h"
#include "tasks/session_file.h"
#include "tasks/text_tasks.h"
#include "tasks/tiny.h"

namespace kvasir::tasks {
namespace {

std::string_view tiny_scorer(std::string_view task) {
  return task == "copy" ? "repoqa" : task == "sum" ? "lcs" : "exact";
}

std::vector<Suite> all_suites() {
  std::vector<Suite> all{{"tasks", "five text tasks that small models are trained on", {}},
                         {"tiny", "SCBench's mechanism in a vocabulary of 128 tokens", {}},
                         {"ruler", "RULER's thirteen tasks", {}},
                         {"scbench", "SCBench: several questions about one document", {}},
                         {"needle",
                          "a number in books, by depth and length",
                          {{"grid", "contains", 32, false, true}}}};
  for (const std::string_view task : kTextTasks)
    all[0].tasks.push_back(
        {task, "exact", task == "presuf" ? 48 : 16, false, task == "needle" || task == "var"});
  for (const std::string_view task : kTinyTasks)
    all[1].tasks.push_back({task, tiny_scorer(task), 32, false, false});
  for (const RulerTask& task : ruler_tasks())
    all[2].tasks.push_back(
        {task.name, task.scorer, task.new_tokens, task.needs_file, task.needs_haystack});
  for (const ScbenchTask& task : scbench_tasks())
    all[3].tasks.push_back({task.config, task.scorer, task.new_tokens, !task.is_synthetic, false});
  return all;
}

template <class Items>
std::string names(const Items& items) {
  std::string text;
  for (const auto& item : items) (text += text.empty() ? "" : ", ") += item.name;
  return text;
}

// Samples of a file, in their order.
class FileGenerator final : public Generator {
 public:
  explicit FileGenerator(std::vector<Sample> samples) : samples_(std::move(samples)) {}
  Result<Sample> sample(uint64_t, uint64_t index) const override {
    if (index < samples_.size()) return samples_[index];
    return Error(ErrorCode::kResourceExhausted,
                 "the file has " + std::to_string(samples_.size()) + " sessions");
  }

 private:
  std::vector<Sample> samples_;
};

// Owns what the qa tasks read.
class QaFileGenerator final : public Generator {
 public:
  static Result<std::unique_ptr<Generator>> make(std::string_view task,
                                                 const GeneratorOptions& options, QaSet set) {
    auto made = std::make_unique<QaFileGenerator>();
    made->set_ = std::move(set);
    auto generator = make_ruler(task, options, &made->set_);
    if (!generator) return generator.error();
    made->generator_ = std::move(generator).value();
    return std::unique_ptr<Generator>(std::move(made));
  }
  Result<Sample> sample(uint64_t seed, uint64_t index) const override {
    return generator_->sample(seed, index);
  }

 private:
  QaSet set_;
  std::unique_ptr<Generator> generator_;
};

Result<std::unique_ptr<Generator>> make_ruler_task(std::string_view task, GeneratorOptions options,
                                                   const Task& about, const TaskFiles& files) {
  options.target_tokens -= about.new_tokens;  // the limit holds with the answer
  if (!about.needs_file || files.data_folder.empty()) return make_ruler(task, options);
  auto set = task == "qa_1" ? load_squad(files.data_folder / "squad.json")
                            : load_hotpot(files.data_folder / "hotpot.json");
  if (!set) return set.error();
  return QaFileGenerator::make(task, options, std::move(set).value());
}

}  // namespace

const std::vector<Suite>& suites() {
  static const std::vector<Suite> all = all_suites();
  return all;
}

Result<const Suite*> find_suite(std::string_view name) {
  for (const Suite& suite : suites())
    if (suite.name == name) return &suite;
  return Error(ErrorCode::kNotFound, "no such suite; there are " + names(suites()),
               std::string(name));
}

Result<const Task*> find_task(std::string_view suite, std::string_view name) {
  const auto found = find_suite(suite);
  if (!found) return found.error();
  for (const Task& task : found.value()->tasks)
    if (task.name == name) return &task;
  return Error(
      ErrorCode::kNotFound,
      "no such task of " + std::string(suite) + "; there are " + names(found.value()->tasks),
      std::string(name));
}

Result<std::unique_ptr<Generator>> make_generator(std::string_view suite, std::string_view task,
                                                  const GeneratorOptions& options,
                                                  const TaskFiles& files) {
  const auto found = find_task(suite, task);
  if (!found) return found.error();
  if (suite == "tasks") return make_text_task(task, options);
  if (suite == "ruler") return make_ruler_task(task, options, *found.value(), files);
  if (suite == "needle") return make_needle_grid(options);
  if (suite == "tiny")
    return make_tiny_generator(
        task, tiny_options(task, static_cast<int>(options.target_tokens), options.turns));
  if (files.data_folder.empty()) return make_scbench(task, options);
  auto samples = load_sessions(files.data_folder, task);
  if (!samples) return samples.error();
  return std::unique_ptr<Generator>(std::make_unique<FileGenerator>(std::move(samples).value()));
}

std::string_view scorer_of(const Task& task, const Sample& sample, const Turn& turn) {
  if (find_scbench(sample.task) != nullptr) return scbench_scorer(sample, turn);
  return turn.task.empty() ? task.scorer : tiny_scorer(turn.task);
}

int new_tokens_of(const Task& task, const Sample& sample, const Turn& turn) {
  if (find_scbench(sample.task) != nullptr) return scbench_new_tokens(sample, turn);
  return task.new_tokens;
}

}  // namespace kvasir::tasks

#pragma once
// Samples of tasks for training: the generators of the benchmark, with keys and books of their own.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/chat_encoder.h"
#include "data/recipe.h"
#include "data/sample.h"
#include "tasks/task.h"

namespace kvasir::data {

// What a recipe's mixture may name besides books: the tasks room's text tasks.
const std::vector<std::string>& task_names();

// Of a task by its name; tasks::make_text_task. Thread-safe.
using MakeGenerator = std::function<Result<std::unique_ptr<tasks::Generator>>(
    std::string_view task, tasks::GeneratorOptions options)>;

class TaskSamples final : public SampleSource {
 public:
  // All but the function must outlive it. `training` and `held_out`: text of the books that are
  // trained on and of those that are not; null where no task needs books.
  TaskSamples(MakeGenerator make, const ChatEncoder& encoder, const DataRecipe& data,
              const tasks::Haystack* training, const tasks::Haystack* held_out);

  // Turns take about data.question_fraction of the sample; where they leave no room for a document,
  // there are fewer, at least one.
  Sample make(const SampleRequest& request) const override;

 private:
  // At most that many tokens with <|begin|> and so many turns; nothing where they do not fit.
  Result<tasks::Sample> conversation(const SampleRequest& request, int64_t target_tokens,
                                     int64_t turns) const;

  MakeGenerator make_;
  const ChatEncoder* encoder_;
  double question_fraction_;
  int64_t most_turns_;
  float context_weight_, answer_weight_;
  const tasks::Haystack *training_, *held_out_;
};

}  // namespace kvasir::data

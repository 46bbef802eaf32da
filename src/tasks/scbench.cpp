#include "tasks/scbench.h"

#include <algorithm>

#include "tasks/score_text.h"

namespace kvasir::tasks {
namespace {

constexpr ScbenchTask kTasks[] = {
    {"scbench_kv", "Retr.KV", "string retrieval", "contains", 150, true},
    {"scbench_prefix_suffix", "Retr.Prefix-Suffix", "string retrieval", "contains", 150, true},
    {"scbench_vt", "Retr.MultiHop", "string retrieval", "variables", 30, true},
    {"scbench_repoqa", "Code.RepoQA", "semantic retrieval", "repoqa", 1024, false},
    {"scbench_qa_eng", "En.QA", "semantic retrieval", "qa_eng", 40, false},
    {"scbench_qa_chn", "Zh.QA", "semantic retrieval", "qa_chn", 40, false},
    {"scbench_choice_eng", "En.MultiChoice", "semantic retrieval", "choice", 40, false},
    {"scbench_mf", "Math.Find", "global information", "math_find", 5, true},
    {"scbench_many_shot", "ICL.ManyShot", "global information", "many_shot", 10, true},
    {"scbench_summary", "En.Sum", "global information", "summary", 200, false},
    {"scbench_summary_with_needles", "Mix.Sum+NIAH", "multi-tasking", "summary", 800, false},
    {"scbench_repoqa_and_kv", "Mix.RepoQA+KV", "multi-tasking", "repoqa", 1024, false},
};

std::string find_question(std::string_view input) {
  const std::string target = scbench_target(input);
  return target.empty() ? "What is asked for below?" : "What is " + target + "?";
}

std::string_view instruction(std::string_view task) {
  if (task == "scbench_kv") return "Find the values of keys in the JSON object below.";
  if (task == "scbench_repoqa")
    return "Read the code below. Find the function that matches the description and repeat it.";
  if (task == "scbench_qa_eng")
    return "Read the book below and answer a question. Be very concise in your answer.";
  if (task == "scbench_qa_chn") return "请根据以下书籍回答我的问题。";
  if (task == "scbench_choice_eng") return "Read the book below and answer the question.";
  return {};
}

std::string question_block(std::string_view task, const Turn& turn) {
  if (task == "scbench_qa_eng") return "Question: " + turn.question + "\nAnswer:";
  if (task == "scbench_qa_chn") return "问题：" + turn.question + "\n请尽量简短地回答。\n答案：";
  if (task != "scbench_choice_eng") return turn.question;
  std::string block = "Question: " + turn.question + "\n\nOnly one of these options is correct:\n";
  for (size_t i = 0; i < turn.options.size(); ++i) {
    block += static_cast<char>('A' + static_cast<char>(i));
    block += ". " + turn.options[i] + "\n";
  }
  return block + "\nWhich option is correct? Answer with its letter.";
}

std::string_view task_of(const Sample& sample, const Turn& turn) {
  return turn.task.empty() ? sample.task : turn.task;
}

}  // namespace

std::span<const ScbenchTask> scbench_tasks() { return kTasks; }

const ScbenchTask* find_scbench(std::string_view config) {
  const auto* found = std::find_if(std::begin(kTasks), std::end(kTasks),
                                   [&](const ScbenchTask& task) { return task.config == config; });
  return found == std::end(kTasks) ? nullptr : found;
}

std::string_view scbench_scorer(const Sample& sample, const Turn& turn) {
  const std::string_view task = task_of(sample, turn);
  if (task == "scbench_passkey") return "passkey";
  const ScbenchTask* found = find_scbench(task);
  return found == nullptr ? "exact" : found->scorer;
}

int scbench_new_tokens(const Sample& sample, const Turn& turn) {
  const std::string_view task = task_of(sample, turn);
  if (task == "scbench_passkey") return 15;
  if (sample.task == "scbench_summary_with_needles") return 800;
  if (sample.task == "scbench_repoqa_and_kv" && task == "scbench_kv") return 80;
  const ScbenchTask* found = find_scbench(task);
  return found == nullptr ? 500 : found->new_tokens;
}

std::string scbench_target(std::string_view input) {
  for (const std::string_view line : split_lines(input)) {
    const size_t begin = line.find("The "), end = line.rfind(" is");
    if (begin == std::string_view::npos || end == std::string_view::npos || end < begin + 5)
      continue;
    return lower_text(line.substr(begin, end - begin));
  }
  return {};
}

ScbenchPrompt scbench_prompt(const Sample& sample) {
  ScbenchPrompt prompt;
  const bool is_find = sample.task == "scbench_mf";
  const std::string first = is_find && !sample.turns.empty()
                                ? find_question(sample.turns.front().question)
                                : std::string(instruction(sample.task));
  prompt.before = first.empty() ? sample.context : first + "\n\n" + sample.context;
  for (const Turn& turn : sample.turns) {
    const std::string block = question_block(sample.task, turn);
    prompt.turns.push_back("\n\n" + block);
    prompt.follow.push_back(is_find ? find_question(turn.question) + "\n\n" + block : block);
  }
  return prompt;
}

}  // namespace kvasir::tasks

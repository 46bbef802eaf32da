#include "train/evaluation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/progress.h"

namespace kvasir::train {

std::vector<AnswerRows> answers_of(const Batch& batch) {
  std::vector<AnswerRows> answers;
  for (size_t i = 0; i + 1 < batch.documents.size(); ++i) {
    bool goes_on = false;
    for (int64_t row = batch.documents[i]; row < batch.documents[i + 1]; ++row) {
      const bool is_answer = batch.weights[static_cast<size_t>(row)] > 0;
      if (is_answer && !goes_on) answers.push_back({row, row});
      if (is_answer) answers.back().last = row + 1;
      goes_on = is_answer;
    }
  }
  return answers;
}

std::vector<std::string> evaluation_lines(int64_t step, std::span<const Measurement> found) {
  std::map<int64_t, std::string> books, tasks;  // by length
  for (const Measurement& one : found) {
    if (!one.accuracy) {
      books[one.length] += fmt::format("  {} {:.4f}", one.name, one.loss);
      continue;
    }
    std::string& line = tasks[one.length];
    line += fmt::format("  {} {:.3f}", one.name, one.accuracy->share());
    std::vector<std::string> hops;
    for (const auto& [links, accuracy] : one.by_hops)
      hops.push_back(fmt::format("{} {:.2f}", links, accuracy.share()));
    if (!hops.empty()) line += fmt::format(" (hops {})", fmt::join(hops, ", "));
  }
  std::vector<std::string> lines;
  const auto tell = [&](const char* what, const std::map<int64_t, std::string>& by_length) {
    for (const auto& [length, text] : by_length)
      lines.push_back(
          fmt::format("step {}  {} at {}:{}", step, what, with_thousands(length), text));
  };
  tell("held-out loss", books);
  tell("exact answers", tasks);
  return lines;
}

}  // namespace kvasir::train

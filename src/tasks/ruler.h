#pragma once
// RULER's thirteen tasks and the needle grid: what is hidden in a document is asked for once.

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/task.h"

namespace kvasir::tasks {

struct RulerTask {
  std::string_view name;
  std::string_view scorer;
  int new_tokens;
  bool needs_haystack, needs_file;
};

std::span<const RulerTask> ruler_tasks();

// The documents and questions of qa_1 (SQuAD v2's JSON) and qa_2 (HotpotQA's).
struct QaSet {
  struct Question {
    std::string text;
    std::vector<std::string> answers;
    std::vector<size_t> gold;  // documents that answer it
  };
  std::vector<std::string> documents;
  std::vector<Question> questions;
};
// Errors: kMalformed, with the field; kNotFound, kIo.
Result<QaSet> load_squad(const std::filesystem::path& file);
Result<QaSet> load_hotpot(const std::filesystem::path& file);
Result<QaSet> parse_squad(std::string_view json, std::string_view origin);
Result<QaSet> parse_hotpot(std::string_view json, std::string_view origin);

// A sample and its answer fit into target_tokens. The numbers of hidden things are the task's:
// `turns`, `hops` and phrasings of the options are not used. `qa` must outlive the generator; for
// qa_1 and qa_2 alone. Errors: kNotFound, kInvalidArgument (a haystack or file that is missing).
Result<std::unique_ptr<Generator>> make_ruler(std::string_view task, GeneratorOptions options,
                                              const QaSet* qa = nullptr);

// The grid: a city's number in books, at a depth of the text. 200 tokens below target_tokens, for
// the template and the answer. Needs options.depth and options.haystack.
Result<std::unique_ptr<Generator>> make_needle_grid(GeneratorOptions options);
// `count` lengths or depths, evenly spaced from `first` to `last`, rounded to whole numbers.
std::vector<int64_t> even_grid(int64_t first, int64_t last, int count);

}  // namespace kvasir::tasks

// Lengths with the tokenizer of the shipped model, and books where they are there.

#include <gtest/gtest.h>

#include <filesystem>

#include "tasks/haystack.h"
#include "tasks/registry.h"
#include "tasks/text_tasks.h"
#include "text/tokenizer.h"

namespace kvasir::tasks {
namespace {

TEST(TextTasksTokenizer, LengthsAreKept) {
  const std::string path = std::string(KVASIR_SOURCE_DIR) + "/models/bootstrap-16m/tokenizer.json";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const auto tokenizer = text::Tokenizer::load(path).value();
  const Haystack haystack = Haystack::made_up();
  GeneratorOptions options{.turns = 4, .haystack = &haystack};
  options.count = [&](std::string_view text) {
    return static_cast<int64_t>(tokenizer.encode(text, {.add_special_tokens = false}).size());
  };
  for (const std::string_view task : kTextTasks)
    for (const int64_t tokens : {1024, 4096, 16384}) {
      SCOPED_TRACE(std::string(task) + " " + std::to_string(tokens));
      options.target_tokens = tokens;
      const Sample sample = make_text_task(task, options).value()->sample(1, 0).value();
      const int64_t counted = count_tokens(sample, options);
      EXPECT_LE(counted, tokens);
      const int64_t entry = task == "needle" || task == "var" ? 0 : 30;
      EXPECT_GE(counted, tokens - std::max(tokens / 50, entry));
    }
}

}  // namespace
}  // namespace kvasir::tasks

#pragma once
// Prompts that searches compare methods on: tasks with known answers, hidden in a document.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kvasir/request.h"
#include "tasks/haystack.h"
#include "tasks/task.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace kvasir::search {

class Probes {
 public:
  // With the tokenizer and, where there is one, the chat template of `model`. Throws kNotFound
  // without a tokenizer; kInvalidArgument for a document without a sentence.
  Probes(const std::filesystem::path& model, const std::string& document);

  // A task of the suite "tasks" in at most `length` tokens, with four questions; each length and
  // index (from -1 on) has a document of its own. Throws kResourceExhausted where the length has no
  // room for it.
  tasks::Sample sample(const std::string& task, int64_t length, int index) const;
  // A question behind the document, as a conversation where the model has one.
  std::vector<TokenId> prompt(const tasks::Sample& sample, const tasks::Turn& turn) const;
  std::vector<TokenId> answer(const tasks::Turn& turn) const;
  std::vector<TokenId> tokens(std::string_view text) const;  // without special ones

 private:
  const text::Tokenizer tokenizer_;
  std::optional<text::ChatTemplate> template_;
  const tasks::Haystack haystack_;
};

}  // namespace kvasir::search

#pragma once
// How a session is put to a model: the token ids of each question, and the text of an answer.

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "eval/options.h"
#include "kvasir/engine.h"
#include "tasks/task.h"

namespace kvasir::eval {

// A user's own prompts of one task. {context} {input} {question} {target} and, of multiple choice,
// {A} to {D} are filled in; {target} is what a question of the form "The ... is" asks for.
struct PromptTemplate {
  std::string first, follow;             // multi-turn: messages of the user
  std::string context_only, query_only;  // multi-request: the two parts of one
};
using PromptTemplates = std::map<std::string, PromptTemplate>;
// {"scbench_kv": {"first": ..., "follow": ..., "context_only": ..., "query_only": ...}, ...}.
// Errors: kNotFound, kIo; kMalformed, naming task and key.
Result<PromptTemplates> load_templates(const std::filesystem::path& file);

// The prompts of one session. Immutable but for what it remembers: one thread.
class SessionPrompts {
 public:
  virtual ~SessionPrompts() = default;
  // Multi-request: the prompt of a question, and what the prompts of all questions begin with
  // before anything of a question is seen.
  virtual const std::vector<TokenId>& alone(size_t turn) const = 0;
  virtual const std::vector<TokenId>& context() const = 0;
  // Multi-turn: the prompt of question `answers.size()` behind the earlier ones with these answers.
  virtual std::vector<TokenId> after(std::span<const std::string> answers) const = 0;
};

// What prompts are made with.
struct PromptMaking {
  const Engine* engine = nullptr;
  const PromptTemplates* templates = nullptr;  // null: the product's own
  // Tokens that a conversation may have, answers included. A context that is longer loses its
  // middle, so that `answer_tokens` have room behind it. 0: nothing is cut.
  int64_t limit = 0;
};

// Whether models of this vocabulary are spoken to in the ids of the tiny tasks, without text.
bool speaks_tiny_ids(const ModelInfo& info);

// `sample` must outlive the prompts. Throws Error where the model has neither a tokenizer nor the
// vocabulary of the tiny tasks.
std::unique_ptr<SessionPrompts> make_prompts(const tasks::Sample& sample, std::string_view suite,
                                             Mode mode, int64_t answer_tokens,
                                             const PromptMaking& making);

}  // namespace kvasir::eval

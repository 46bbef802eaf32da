#pragma once
// Asking and showing: submits prompts, shows progress, streams or prints answers, keeps the numbers
// for the closing table.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/answers.h"
#include "cli/conversation.h"

namespace kvasir::cli {

struct Question {
  std::vector<TokenId> prompt;
  std::optional<std::string> text;  // as it was asked; shown above the answer where there are more
};

class RunSession {
 public:
  RunSession(Engine& engine, const Options& options, Environment& environment);

  // Submits all at once and prints the answers in order. Returns the results, question by question,
  // sample by sample. An interrupt cancels them; what came so far is printed. Throws the first
  // error that an answer ended with, after the answers before it are printed.
  std::vector<SampleResult> ask(std::vector<Question> questions);
  // Reads a prefix into the cache: progress, no answer. False where it was interrupted.
  bool read_ahead(std::vector<TokenId> prefix);

  // The question's text is shown where more than one is asked.
  void show_questions(bool show) { show_questions_ = show; }
  // Prints the closing table.
  void close();
  bool interrupted() const { return interrupted_; }
  void forget_interrupt() { interrupted_ = false; }
  int exit_status() const;

 private:
  Engine& engine_;
  const Options& options_;
  Environment& environment_;
  bool show_questions_ = false;
  bool interrupted_ = false;
  int64_t asked_ = 0;
  struct Kept {
    std::string label;
    SampleResult result;
  };
  std::vector<Kept> kept_;
};

// The questions of --ask as turns of one conversation.
void run_turns(RunSession& session, PromptMaker& prompts, const Options& options);

// Tokens to keep free for `turns` more turns when a document must be shortened.
int64_t reserve_for(int64_t turns, int64_t max_tokens, int64_t limit);

}  // namespace kvasir::cli

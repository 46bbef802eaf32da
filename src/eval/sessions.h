#pragma once
// The sessions of a run, one after the other.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "eval/prompts.h"
#include "tasks/haystack.h"
#include "tasks/registry.h"

namespace kvasir::eval {

// What published files' sessions are cut to where nothing else is said, as in the published code.
inline constexpr int64_t kMostOfFile = 131072;

struct Session {
  const tasks::Task* task = nullptr;
  int64_t length = 0;       // 0: as it came from a file
  int64_t full_length = 0;  // the same, or how long a file's sessions may be
  double depth = -1;
  int64_t index = 0;
  tasks::Sample sample;
  std::vector<int64_t> new_tokens;  // most of each turn's answer
  std::map<Mode, std::unique_ptr<SessionPrompts>> prompts;

  // Tokens that a conversation over it has at most.
  int64_t most_tokens(Mode mode, Answers answers) const;
};

// `options` with what was not asked for filled in: tasks, lengths (those that a model of
// `most_tokens` positions takes), modes, numbers. `note` gets one sentence for each task that is
// left out. Throws Error for a suite or task that there is not, for a length that the model does
// not take, and for files that are missing.
RunOptions resolved(RunOptions options, int64_t most_tokens,
                    const std::function<void(const std::string&)>& note);

// Makes sessions: task by task, length by length, depth by depth.
class SessionSource {
 public:
  using Note = std::function<void(const std::string&)>;
  // Both must outlive the source. `options` are resolved. `note` gets a sentence for each task
  // whose sessions do not go into a length; throws Error where none do, or a generator cannot be
  // made.
  SessionSource(const RunOptions& options, const Engine& engine, Note note);

  // Null: there is no more.
  std::shared_ptr<const Session> next();
  // To come, files being taken to have as many as were asked for.
  int64_t remaining() const { return remaining_; }

 private:
  struct Cell {
    const tasks::Task* task;
    int64_t length;
    double depth;
    int64_t first_index;
  };
  tasks::GeneratorOptions generator_options(const Cell& cell) const;
  std::unique_ptr<tasks::Generator> make_generator(const Cell& cell) const;
  std::shared_ptr<const Session> make_session(const Cell& cell, tasks::Sample sample,
                                              int64_t index) const;

  void leave_out_what_does_not_fit();

  const RunOptions& options_;
  const Engine& engine_;
  const Note note_;
  const tasks::Haystack haystack_;
  PromptTemplates templates_;
  std::vector<Cell> cells_;
  size_t cell_ = 0;
  int64_t in_cell_ = 0;
  std::unique_ptr<tasks::Generator> generator_;
  int64_t remaining_ = 0;
};

}  // namespace kvasir::eval

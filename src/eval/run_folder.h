#pragma once
// The folder of a run: outcomes.jsonl, a line a question as soon as it is there, and run.json, what
// the run was asked for.

#include <filesystem>
#include <string>
#include <vector>

#include "eval/outcome.h"

namespace kvasir::eval {

class RunFolder {
 public:
  // Makes `path`, or goes on with what is there. `configuration` is a JSON object; that of a run
  // that goes on must be the same but for "machine". `suite` and the time name a new folder where
  // `path` is empty. Errors: kInvalidArgument, naming what differs or that there are outcomes
  // already; kMalformed; kIo.
  static Result<RunFolder> open(std::filesystem::path path, const std::string& suite,
                                const std::string& configuration, bool resume);
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  const std::filesystem::path& path() const { return path_; }
  // What was there, then what was appended.
  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  // What was dropped of what was there; empty: nothing.
  const std::string& notice() const { return notice_; }
  void append(Outcome outcome);  // throws Error{kIo}

 private:
  RunFolder() = default;
  std::filesystem::path path_;
  std::vector<Outcome> outcomes_;
  std::string notice_;
  int descriptor_ = -1;
};

}  // namespace kvasir::eval

#pragma once
// Runs a suite: sessions under every row of methods, side by side, an outcome a question.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "eval/matrix.h"
#include "eval/options.h"

namespace kvasir::eval {

// What can be said and checked before a model is loaded.
struct RunSetup {
  RunOptions options;  // with everything filled in
  EngineOptions engine;
  Matrix matrix;
};

struct RunHooks {
  std::function<void(const std::string&)> note;  // one sentence
  std::function<bool()> cancelled;
  ProgressOptions progress;
};

// Throws Error for whatever can never run.
RunSetup prepare(RunOptions options, const RunHooks& hooks);

// Names the rows that were left out. Throws kUnsupported where no other was asked for.
void note_refused(const RunSetup& setup, const RunHooks& hooks);

struct RunResult {
  std::filesystem::path folder;
  std::vector<Outcome> outcomes;  // of an earlier run that this one goes on with, too
  bool is_finished = false;       // otherwise it was cancelled
};

// Every outcome is in the folder's file as soon as it is there; a question that fails is one with
// an error. `engine` was loaded with setup.engine. Rows that the model refuses are moved to
// setup.matrix.refused. Throws Error where nothing can run, or the file cannot be written.
RunResult run(RunSetup& setup, Engine& engine, const RunHooks& hooks);

}  // namespace kvasir::eval

#pragma once
// The dialogue on a terminal: read once, ask as long as one likes.

#include "cli/run_session.h"

namespace kvasir::cli {

// Reads the document ahead, then prompts for questions on environment.in until Ctrl-D or /quit.
// Ctrl-C stops an answer, or drops a line being typed, and not the dialogue.
void run_dialogue(RunSession& session, PromptMaker& prompts, const Options& options,
                  Environment& environment);

}  // namespace kvasir::cli

#pragma once
// The five text tasks that small models are trained on: needle, kv, var, icl, presuf.

#include <memory>
#include <string_view>

#include "tasks/task.h"

namespace kvasir::tasks {

inline constexpr std::string_view kTextTasks[] = {"needle", "kv", "var", "icl", "presuf"};
inline constexpr int kTrainingPhrasings =
    -1;                               // for each question the usual one or one of training's own
inline constexpr int kPhrasings = 6;  // of a question; all but 0 for evaluation only

// Turns that a sample can have: no word is asked for twice.
int most_turns(KeySpace space);

// Errors: kNotFound (no such task), kInvalidArgument (options that do not go together; a needle or
// var without a haystack).
Result<std::unique_ptr<Generator>> make_text_task(std::string_view task, GeneratorOptions options);

}  // namespace kvasir::tasks

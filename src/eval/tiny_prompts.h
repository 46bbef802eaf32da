#pragma once
// Sessions of the tiny tasks in their own ids, for models of their vocabulary.

#include <memory>
#include <span>
#include <string>

#include "eval/prompts.h"

namespace kvasir::eval {

std::unique_ptr<SessionPrompts> make_tiny_prompts(const tasks::Sample& sample);

// An answer as the tasks' scorers read it, up to its end token or an id that is no word.
std::string tiny_text(std::span<const TokenId> answer);

}  // namespace kvasir::eval

#pragma once
// Processes that work together and end together.

#include <filesystem>
#include <string>
#include <vector>

#include "cli/environment.h"

namespace kvasir::cli {

// Runs `program` once for each list of arguments, all at once, on this process's streams. What
// interrupts this process is sent on to each of them once; they have a process group of their own,
// so that a terminal's Ctrl-C does not come twice, and end with this process however it ends. Where
// one fails, the others are ended a moment later. Returns 0, or what the first that failed ended
// with (128 + signal). Throws Error{kIo} where a process cannot be started.
int run_processes(const std::filesystem::path& program,
                  const std::vector<std::vector<std::string>>& arguments,
                  const Interrupts& interrupts);

}  // namespace kvasir::cli

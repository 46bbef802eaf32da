#pragma once
// The commands on the real terminal.

#include <string>
#include <vector>

#include "cli/environment.h"

namespace kvasir::cli {

// Runs the program on the process's streams and signals. Returns its exit code.
int main_program(const std::vector<std::string>& arguments);

// The parts of an Environment that come from the rooms below: documents and tokenizers.
void connect_rooms(Environment& environment);

}  // namespace kvasir::cli

#pragma once
// Runs the kvasir program as a user would and keeps what it printed, how it ended and what it took.

#include <csignal>
#include <string>
#include <vector>

namespace kvasir::program {

struct Outcome {
  int code = -1;           // exit status, or 128 + signal
  std::string out, err;    // what it printed
  double seconds = 0;      // from start to end
  int64_t peak_bytes = 0;  // largest resident size
};

// Where and when to interrupt: once stderr holds `text`.
struct Interrupt {
  std::string text;
  int signal = SIGINT;
  double* seconds = nullptr;  // set to the time from the signal to the end
};

// Runs `kvasir <arguments>` in the project's folder. Standard input is empty.
Outcome run(const std::vector<std::string>& arguments, const Interrupt* interrupt = nullptr);

}  // namespace kvasir::program

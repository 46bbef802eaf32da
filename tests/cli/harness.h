#pragma once
// Runs commands in this process with streams in memory, and the program as a subprocess.

#include <functional>
#include <string>
#include <vector>

#include "cli/environment.h"

namespace kvasir::cli {

struct Outcome {
  int code = -1;
  std::string out, err;
};

struct Setting {
  std::string input;  // standard input
  bool in_terminal = false, err_terminal = false;
  int width = 100;
  // Called on every write to stdout with all of it so far; may raise interrupts.
  std::function<void(const std::string& out, Interrupts& interrupts)> on_out;
  std::function<void(const std::string& err, Interrupts& interrupts)> on_err;
  int64_t fail_out_after = -1;                                  // bytes; then writing fails
  std::function<void(Interrupts& interrupts)> with_interrupts;  // called before the command
  std::function<void()> before;  // called when the fake engine's log is fresh
};

Outcome run(const std::vector<std::string>& arguments, const Setting& setting = {});

// A file under a folder that lives as long as the test program.
std::string temporary_file(const std::string& name, const std::string& content);
std::string temporary_folder();
std::string file_content(const std::string& path);

// A program as a subprocess; by default the commands with the fake engine.
struct Process {
  int pid = -1;
  int in = -1, out = -1, err = -1;  // our ends of its pipes
  // `out_to`: a descriptor for its standard output instead of a pipe.
  static Process start(const std::vector<std::string>& arguments,
                       const std::string& program = KVASIR_FAKE, int out_to = -1);
  // Read until `text` is there; false where the end comes first.
  bool wait_for_out(const std::string& text);
  bool wait_for_err(const std::string& text);
  std::string out_seen, err_seen;  // so far
  // Closes in, reads the rest, waits.
  Outcome finish();
};

}  // namespace kvasir::cli

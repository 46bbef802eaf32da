// kvasir-bench: the commands with the benchmarks, which need libtorch.

#include <cstdlib>

#include "cli/commands.h"
#include "cli/system.h"

int main(int argc, char** argv) {
  const int code = kvasir::cli::main_program({argv + 1, argv + argc});
  // Without static destructors: those of libtorch 2.11 abort where the system's C++ library is
  // newer than the one it was built with (seen on Ubuntu 24.04). Everything is written by now.
  std::_Exit(code);
}

// The program: the operating system's side of the commands.

#include "cli/commands.h"
#include "cli/system.h"

int main(int argc, char** argv) { return kvasir::cli::main_program({argv + 1, argv + argc}); }

#pragma once
// The CLI11 application behind parse_arguments(), for --help and completion. Heavy: included by
// app*.cpp, help.cpp and completion.cpp alone.

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cli/options.h"

namespace kvasir::cli {

// The application writing into `options`, which must outlive it. Subcommands are the commands, in
// the order of Command.
std::unique_ptr<CLI::App> build_app(Options& options);

// Groups of options in the order of their first member.
std::string help_text(const CLI::App& app, int width);
std::string completion_script(CLI::App& app);

// The words that an option takes where they are a fixed set: from its type name "a|b|c".
std::vector<std::string> option_choices(const CLI::Option& option);

}  // namespace kvasir::cli

#pragma once
// One function a command. Each returns an exit code or throws Error; run_program() turns everything
// into one.

#include <memory>
#include <string>

#include "cli/environment.h"
#include "cli/options.h"

namespace kvasir::cli {

// Parses and runs: the whole program but for the operating system. Errors go to `err` as one line
// and, with --json, to `out` as {"error": ...}.
int run_program(const std::vector<std::string>& arguments, Environment& environment);

int run_command(const Options& options, Environment& environment);
int score_command(const Options& options, Environment& environment);
int plan_command(const Options& options, Environment& environment);
int info_command(const Options& options, Environment& environment);
int tokenize_command(const Options& options, Environment& environment);
int methods_command(const Options& options, Environment& environment);
int bench_command(const Options& options, Environment& environment);
int train_command(const Options& options, Environment& environment);
int search_command(const Options& options, Environment& environment);

// What `kvasir train` does, by the word behind it.
int train_run_command(const Options& options, Environment& environment);
int train_tokenizer_command(const Options& options, Environment& environment);
int train_data_command(const Options& options, Environment& environment);
int train_manifest_command(const Options& options, Environment& environment);

// Loads the model with a progress bar.
std::unique_ptr<Engine> load_engine(const EngineOptions& options, Environment& environment);

// A document, checked: readable, not empty, UTF-8.
std::string read_text(const std::string& path, Environment& environment);

// The methods of `choice` and their options are known; otherwise throws kNotFound with the nearest
// name, or kInvalidArgument.
void check_methods(const StageChoice& choice);

}  // namespace kvasir::cli

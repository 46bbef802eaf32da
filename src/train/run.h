#pragma once
// A training run from its recipe: `kvasir train run`. Light: the program that starts it has no
// libtorch.

#include <filesystem>
#include <functional>
#include <string>

namespace kvasir::train {

struct RunOptions {
  std::filesystem::path recipe;
  std::filesystem::path corpus;  // folder of the texts; empty: the recipe's
  std::filesystem::path output;  // tokenizer, shards, model files, checkpoints, log
  bool resume = false;           // from the latest checkpoint there
  std::string device = "auto";   // auto | cpu | cuda | cuda:N; auto and cuda: the rank's GPU
  int threads = 0;               // 0: every usable CPU
  // Several processes, one a device: each is started with its rank.
  int processes = 1, rank = 0;
  std::string meeting;                          // "host:port", or a file that all see
  std::function<void(const std::string&)> say;  // a line for a person
  std::function<bool()> stop;                   // asked between steps; ends with a checkpoint
};

// Prepares what is not there yet, and trains to the end of the recipe. Returns the last checkpoint.
// Throws Error.
std::filesystem::path run_recipe(const RunOptions& options);

}  // namespace kvasir::train

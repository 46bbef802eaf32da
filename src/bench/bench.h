#pragma once
// Measurements of speed: `kvasir bench prefill | decode | train | tokenizer | load`.

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace kvasir::bench {

struct BenchOptions {
  std::string what;             // prefill, decode, train, tokenizer or load
  std::filesystem::path model;  // a model folder
  std::string shape;  // "" = the model's; "16m", "1b", "8b" = that Llama shape with random weights
  std::string device = "auto";     // auto | cpu | cuda | cuda:N
  std::vector<int64_t> lengths;    // tokens; empty = the default sweep
  std::filesystem::path document;  // tokenizer: the text
  int threads = 0;                 // 0 = every usable CPU
  int repetitions = 5;             // at least; long measurements take fewer and say so
  bool json = false;
  std::filesystem::path record;  // also write the JSON here; empty = nowhere
};

// Prints a table (or one JSON object) to `out` and progress to `progress`. Returns 0, or throws
// Error.
int run_bench(const BenchOptions& options, std::ostream& out, std::ostream& progress);

}  // namespace kvasir::bench

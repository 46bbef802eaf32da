#pragma once
// How well methods predict text: windows of documents through the engine's scorer.

#include <optional>
#include <string>
#include <vector>

#include "eval/runner.h"

namespace kvasir::eval {

// A row of methods on windows of one length.
struct PerplexityCell {
  MethodRow row;
  int64_t length = 0, windows = 0, predictions = 0;
  double nats_per_token = 0;   // over all predictions
  double perplexity = 0;       // its exponential
  double mean_of_windows = 0;  // of their perplexities, as published figures are
  // Nats per token minus those of the first row, mean over the same windows, with its 95 % interval
  // (normal); and the divergence of the row's predictions from the first row's. Not of the first.
  std::optional<double> difference, kl_per_token;
  report::Interval difference_interval{0, 0};
};

// Windows of the documents in their order: `lengths` are those of windows, `sessions` how many
// there are of each. Throws Error: kMalformed where the documents have not one of a length;
// kCancelled.
std::vector<PerplexityCell> run_perplexity(const RunSetup& setup, Engine& engine,
                                           const RunHooks& hooks);

std::string perplexity_table(const std::vector<PerplexityCell>& cells, size_t width);
std::string perplexity_json(const std::vector<PerplexityCell>& cells);

}  // namespace kvasir::eval

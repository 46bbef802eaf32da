#pragma once
// The table that closes a run.

#include <string>
#include <vector>

#include "cli/answers.h"

namespace kvasir::cli {

// One answer as the closing table shows it.
struct TableEntry {
  std::string label;  // "1", "2.1" (question and sample)
  const SampleResult* result = nullptr;
};

// The table that closes a run: per answer tokens, times, methods, and totals below.
std::string closing_table(const std::vector<TableEntry>& entries, double load_seconds);

}  // namespace kvasir::cli

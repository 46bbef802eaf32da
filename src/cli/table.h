#pragma once
// Tables of plain text, aligned, for people.

#include <string>
#include <vector>

#include "cli/answers.h"

namespace kvasir::cli {

struct Column {
  std::string head;
  bool right = true;
};

// Rows under a head and a rule; columns two spaces apart; at most `width` columns: the last column
// is wrapped at spaces where it would go beyond.
std::string format_table(const std::vector<Column>& columns,
                         const std::vector<std::vector<std::string>>& rows, size_t width = 100);

// "name   value" lines.
std::string format_pairs(const std::vector<std::pair<std::string, std::string>>& pairs);

// One answer as the closing table shows it.
struct TableEntry {
  std::string label;  // "1", "2.1" (question and sample)
  const SampleResult* result = nullptr;
};

// The table that closes a run: per answer tokens, times, methods, and totals below.
std::string closing_table(const std::vector<TableEntry>& entries, double load_seconds);

}  // namespace kvasir::cli

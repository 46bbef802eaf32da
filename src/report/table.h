#pragma once
// One struct of a table, and how it is written: for a terminal, as Markdown, as CSV. Pages
// (page.h) take it, too.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvasir::report {

struct Column {
  std::string head;
  bool right = true;  // numbers
};

// What a cell says, and the number behind it: what CSV files hold and pages sort by.
struct Cell {
  std::string text;
  std::optional<double> value;

  Cell(std::string text) : text(std::move(text)) {}  // NOLINT: rows are lists of texts
  Cell(const char* text) : text(text) {}             // NOLINT
  Cell(std::string text, double value) : text(std::move(text)), value(value) {}
};

Cell count(int64_t value);                 // 1,234,567
Cell number(double value, int decimals);   // "–" where it is not finite
Cell percent(double share, int decimals);  // 0.25 as "25%"; its value stays a share

struct Table {
  std::string caption;
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;  // none longer than columns; shorter ones end in empty cells
};

// Rows under a head and a rule; columns two spaces apart; at most `width` columns of the terminal:
// the last column is wrapped at spaces where it would go beyond.
std::string terminal_table(const Table& table, size_t width = 100);

// "  name  value" lines.
std::string terminal_pairs(const std::vector<std::pair<std::string, std::string>>& pairs);

// As GitHub reads it, the caption in front.
std::string markdown_table(const Table& table);

// RFC 4180 with line feeds, without the caption; numbers with every digit that tells them apart.
std::string csv_table(const Table& table);

}  // namespace kvasir::report

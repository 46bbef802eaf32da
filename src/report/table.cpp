#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/progress.h"
#include "base/utf8.h"

namespace kvasir::report {
namespace {

size_t columns_of(const std::string& text) { return static_cast<size_t>(count_code_points(text)); }

std::string pad(const std::string& text, size_t width, bool right) {
  const size_t used = columns_of(text);
  const std::string space(width > used ? width - used : 0, ' ');
  return right ? space + text : text + space;
}

// Pieces of at most `width` columns, broken at spaces where there are any.
std::vector<std::string> wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines;
  std::string rest = text;
  while (columns_of(rest) > width) {
    size_t cut = rest.rfind(' ', width);
    if (cut == std::string::npos || cut == 0) {
      cut = width;
      while (cut < rest.size() && (static_cast<unsigned char>(rest[cut]) & 0xc0) == 0x80) ++cut;
    }
    lines.push_back(rest.substr(0, cut));
    rest.erase(0, rest.find_first_not_of(' ', cut));
  }
  lines.push_back(rest);
  return lines;
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

const std::string& text_at(const std::vector<Cell>& row, size_t column) {
  static const std::string kNothing;
  return column < row.size() ? row[column].text : kNothing;
}

void check_rows(const Table& table) {
  for (const auto& row : table.rows)
    KVASIR_CHECK(row.size() <= table.columns.size(), "a row has more cells than there are columns");
}

std::string one_line(std::string text) {
  for (char& letter : text)
    if (letter == '\n' || letter == '\r' || letter == '\t') letter = ' ';
  return text;
}

// A cell of Markdown: one line in which no letter means anything.
std::string markdown_text(const std::string& text) {
  std::string plain;
  for (const char letter : one_line(text)) {
    if (std::string_view("\\`*_|<[]").find(letter) != std::string_view::npos) plain += '\\';
    plain += letter;
  }
  return plain;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos && trimmed(text) == text &&
      !text.starts_with(' '))
    return text;
  std::string quoted = "\"";
  for (const char letter : text) {
    if (letter == '"') quoted += '"';
    quoted += letter;
  }
  return quoted + "\"";
}

}  // namespace

Cell count(int64_t value) { return {with_thousands(value), static_cast<double>(value)}; }

Cell number(double value, int decimals) {
  if (!std::isfinite(value)) return {"–", value};
  return {fmt::format("{:.{}f}", value, decimals), value};
}

Cell percent(double share, int decimals) {
  if (!std::isfinite(share)) return {"–", share};
  return {fmt::format("{:.{}f}%", 100 * share, decimals), share};
}

std::string terminal_table(const Table& table, size_t width) {
  check_rows(table);
  const auto& columns = table.columns;
  if (columns.empty()) return "";
  std::vector<size_t> widths;
  for (const Column& column : columns) widths.push_back(columns_of(column.head));
  for (const auto& row : table.rows)
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], columns_of(row[i].text));
  size_t before = 1;
  for (size_t i = 0; i + 1 < widths.size(); ++i) before += widths[i] + 2;
  const size_t last = width > before + 12 ? width - before : 12;
  widths.back() = std::min(widths.back(), last);

  std::string head = " ";
  size_t rule = 0;
  for (size_t i = 0; i < columns.size(); ++i) {
    head += pad(columns[i].head, widths[i], columns[i].right);
    if (i + 1 < columns.size()) head += "  ";
    rule += widths[i] + (i > 0 ? 2 : 0);
  }
  std::string text = table.caption.empty() ? "" : " " + table.caption + "\n";
  text += trimmed(head) + "\n ";
  for (size_t i = 0; i < rule; ++i) text += "─";
  text += "\n";
  for (const auto& row : table.rows) {
    std::string line = " ";
    for (size_t i = 0; i + 1 < columns.size(); ++i)
      line += pad(one_line(text_at(row, i)), widths[i], columns[i].right) + "  ";
    const std::vector<std::string> pieces =
        wrap(one_line(text_at(row, columns.size() - 1)), widths.back());
    text += trimmed(line + pad(pieces.front(), widths.back(), columns.back().right)) + "\n";
    for (size_t i = 1; i < pieces.size(); ++i) text += std::string(before, ' ') + pieces[i] + "\n";
  }
  return text;
}

std::string terminal_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  size_t width = 0;
  for (const auto& [name, value] : pairs) width = std::max(width, columns_of(name));
  std::string text;
  for (const auto& [name, value] : pairs)
    text += trimmed("  " + pad(name, width, false) + "  " + value) + "\n";
  return text;
}

std::string markdown_table(const Table& table) {
  check_rows(table);
  std::string text = table.caption.empty() ? "" : "**" + markdown_text(table.caption) + "**\n\n";
  std::string rule = "|";
  text += "|";
  for (const Column& column : table.columns) {
    text += " " + markdown_text(column.head) + " |";
    rule += column.right ? "---:|" : "---|";
  }
  text += "\n" + rule + "\n";
  for (const auto& row : table.rows) {
    text += "|";
    for (size_t i = 0; i < table.columns.size(); ++i)
      text += " " + markdown_text(text_at(row, i)) + " |";
    text += "\n";
  }
  return text;
}

std::string csv_table(const Table& table) {
  check_rows(table);
  std::string text;
  for (size_t i = 0; i < table.columns.size(); ++i)
    text += (i > 0 ? "," : "") + csv_field(table.columns[i].head);
  text += "\n";
  for (const auto& row : table.rows) {
    for (size_t i = 0; i < table.columns.size(); ++i) {
      if (i > 0) text += ",";
      if (i >= row.size()) continue;
      if (!row[i].value)
        text += csv_field(row[i].text);
      else if (std::isfinite(*row[i].value))
        text += fmt::format("{}", *row[i].value);
    }
    text += "\n";
  }
  return text;
}

}  // namespace kvasir::report

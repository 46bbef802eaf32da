#include "cli/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "base/utf8.h"

namespace kvasir::cli {
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

// "prefill dense, compress plain, retrieve dense", and why not what was asked for.
std::string methods_of(const AttentionReport& attention) {
  std::string text = fmt::format("prefill {}, compress {}, retrieve {}", attention.prefill,
                                 attention.compress, attention.retrieve);
  if (!attention.fallback_reason.empty()) text += "; " + attention.fallback_reason;
  return text;
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace

std::string format_table(const std::vector<Column>& columns,
                         const std::vector<std::vector<std::string>>& rows, size_t width) {
  std::vector<size_t> widths;
  for (const Column& column : columns) widths.push_back(columns_of(column.head));
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
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
  std::string text = trimmed(head) + "\n ";
  for (size_t i = 0; i < rule; ++i) text += "─";
  text += "\n";
  for (const auto& row : rows) {
    std::string line = " ";
    for (size_t i = 0; i + 1 < row.size(); ++i)
      line += pad(row[i], widths[i], columns[i].right) + "  ";
    const std::vector<std::string> pieces = wrap(row.back(), widths.back());
    text += trimmed(line + pad(pieces.front(), widths.back(), columns.back().right)) + "\n";
    for (size_t i = 1; i < pieces.size(); ++i) text += std::string(before, ' ') + pieces[i] + "\n";
  }
  return text;
}

std::string format_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  size_t width = 0;
  for (const auto& [name, value] : pairs) width = std::max(width, columns_of(name));
  std::string text;
  for (const auto& [name, value] : pairs)
    text += trimmed("  " + pad(name, width, false) + "  " + value) + "\n";
  return text;
}

namespace {

// Of short prompts, tiles score many times what they need; how many times says nothing.
std::string share_text(double fraction) {
  return fraction > 2 ? "> 200 %" : fmt::format("{:.1f} %", 100 * fraction);
}

}  // namespace

std::string closing_table(const std::vector<TableEntry>& entries, double load_seconds) {
  const std::vector<Column> columns{{"#"},         {"prompt"},  {"cached"},   {"answer"},  {"end"},
                                    {"prefill s"}, {"first s"}, {"tokens/s"}, {"computed"}};
  std::vector<std::vector<std::string>> rows;
  std::vector<std::pair<std::string, std::string>> methods;  // and which answers had them
  int64_t read = 0, written = 0;
  double read_seconds = 0;
  for (const TableEntry& entry : entries) {
    const SampleResult& result = *entry.result;
    const Timing& timing = result.timing;
    const bool has_rate = timing.decode_tokens_per_second > 0;
    rows.push_back(
        {entry.label, with_thousands(result.usage.prompt_tokens),
         with_thousands(result.usage.cached_tokens), with_thousands(result.usage.completion_tokens),
         result.finish_reason == FinishReason::kCancelled
             ? "stopped"
             : finish_reason_name(result.finish_reason),
         fmt::format("{:.2f}", timing.prefill_seconds), fmt::format("{:.2f}", timing.ttft_seconds),
         has_rate ? fmt::format("{:.1f}", timing.decode_tokens_per_second) : "-",
         share_text(result.attention.computed_fraction)});
    const std::string ran = methods_of(result.attention);
    const auto known = std::find_if(methods.begin(), methods.end(),
                                    [&ran](const auto& each) { return each.first == ran; });
    if (known == methods.end())
      methods.emplace_back(ran, entry.label);
    else
      known->second += ", " + entry.label;
    written += result.usage.completion_tokens;
    // Samples share one reading of the prompt; one that was stopped before its end does not count.
    const bool was_read = timing.prefill_seconds > 0;
    if (!was_read) continue;
    if (entry.label.find('.') == std::string::npos || entry.label.ends_with(".1")) {
      read += result.usage.prompt_tokens - result.usage.cached_tokens;
      read_seconds += timing.prefill_seconds;
    }
  }
  std::string text = "\n" + format_table(columns, rows);
  for (const auto& [ran, labels] : methods)
    text += methods.size() == 1 ? fmt::format(" {}\n", ran) : fmt::format(" {}: {}\n", labels, ran);
  text += fmt::format(" loaded in {:.2f} s; {} tokens read", load_seconds, with_thousands(read));
  if (read_seconds > 0)
    text +=
        fmt::format(" in {:.2f} s ({} tokens/s)", read_seconds,
                    with_thousands(static_cast<int64_t>(static_cast<double>(read) / read_seconds)));
  return text + fmt::format("; {} written\n", with_thousands(written));
}

}  // namespace kvasir::cli

#include "cli/closing_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "report/table.h"

namespace kvasir::cli {
namespace {

// "prefill dense, compress plain, retrieve dense", and why not what was asked for.
std::string methods_of(const AttentionReport& attention) {
  std::string text = fmt::format("prefill {}, compress {}, retrieve {}", attention.prefill,
                                 attention.compress, attention.retrieve);
  if (attention.kept_fraction > 0 && attention.kept_fraction < 1)
    text += fmt::format("; {:.1f} % of KV kept, {}", 100 * attention.kept_fraction,
                        as_bytes(attention.kv_bytes));
  if (!attention.fallback_reason.empty()) text += "; " + attention.fallback_reason;
  return text;
}

// Of short prompts, tiles score many times what they need; how many times says nothing.
std::string share_text(double fraction) {
  return fraction > 2 ? "> 200 %" : fmt::format("{:.1f} %", 100 * fraction);
}

}  // namespace

std::string closing_table(const std::vector<TableEntry>& entries, double load_seconds) {
  report::Table table{.columns = {{"#"},
                                  {"prompt"},
                                  {"cached"},
                                  {"answer"},
                                  {"end"},
                                  {"prefill s"},
                                  {"first s"},
                                  {"tokens/s"},
                                  {"computed"}}};
  std::vector<std::pair<std::string, std::string>> methods;  // and which answers had them
  int64_t read = 0, written = 0;
  double read_seconds = 0;
  for (const TableEntry& entry : entries) {
    const SampleResult& result = *entry.result;
    const Timing& timing = result.timing;
    const bool has_rate = timing.decode_tokens_per_second > 0;
    table.rows.push_back(
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
  std::string text = "\n" + report::terminal_table(table);
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

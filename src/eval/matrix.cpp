#include "eval/matrix.h"

#include <algorithm>
#include <charconv>
#include <map>

namespace kvasir::eval {
namespace {

// The number behind "n/", or 0.
int64_t part_of_length(const std::string& value) {
  int64_t divisor = 0;
  if (!value.starts_with("n/")) return 0;
  const char* end = value.data() + value.size();
  const auto [stopped, status] = std::from_chars(value.data() + 2, end, divisor);
  return status == std::errc{} && stopped == end && divisor > 0 ? divisor : 0;
}

MethodChoice at_length(MethodChoice choice, int64_t length) {
  for (auto& [key, value] : choice.options)
    if (const int64_t divisor = part_of_length(value))
      value = std::to_string(std::max<int64_t>(1, length / divisor));
  return choice;
}

std::vector<MethodChoice> with(const char* plain, const std::vector<MethodChoice>& others) {
  std::vector<MethodChoice> all{{plain, {}}};
  for (const MethodChoice& choice : others)
    if (std::ranges::none_of(all, [&](const MethodChoice& known) {
          return method_text(known) == method_text(choice);
        }))
      all.push_back(choice);
  return all;
}

std::vector<MatrixRow> combinations(const RunOptions& options) {
  std::vector<Loading> loading{Loading::kResident};
  for (const Loading each : options.loading)
    if (std::ranges::find(loading, each) == loading.end()) loading.push_back(each);
  std::vector<MatrixRow> rows;
  for (const MethodChoice& prefill : with("dense", options.prefill))
    for (const MethodChoice& compress : with("plain", options.compress))
      for (const MethodChoice& retrieve : with("dense", options.retrieve))
        for (const Loading each : loading) rows.push_back({{prefill, compress, retrieve}, each});
  return rows;
}

std::map<std::string, std::string> options_of(std::string_view text) {
  std::map<std::string, std::string> options;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(','));
    const size_t equals = pair.find('=');
    options.emplace(pair.substr(0, equals), pair.substr(equals + 1));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
  }
  return options;
}

// One stage at a time.
std::vector<MatrixRow> one_by_one(const engine::StageTables& tables) {
  std::vector<MatrixRow> rows{{}};
  const StageChoice plain;
  const auto add = [&](std::span<const Method> table, MethodChoice StageChoice::* stage) {
    for (const Method& method : table) {
      if (method.name == (plain.*stage).name) continue;
      rows.emplace_back().stages.*stage = {std::string(method.name), options_of(method.scaled)};
    }
  };
  add(tables.prefill, &StageChoice::prefill);
  add(tables.compress, &StageChoice::compress);
  add(tables.retrieve, &StageChoice::retrieve);
  return rows;
}

}  // namespace

const char* loading_name(Loading loading) {
  return loading == Loading::kResident ? "resident" : "recompute";
}

MethodRow MatrixRow::name() const {
  return {method_text(stages.prefill), method_text(stages.compress), method_text(stages.retrieve),
          loading_name(loading)};
}

StageChoice MatrixRow::at(int64_t length) const {
  return {at_length(stages.prefill, length), at_length(stages.compress, length),
          at_length(stages.retrieve, length)};
}

void Matrix::refuse(size_t row, const Error& error) {
  refused.push_back({rows[row], error.what()});
  rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(row));
}

Matrix make_matrix(const RunOptions& options, const std::vector<int64_t>& lengths, bool on_gpu,
                   bool each_method, const engine::StageTables& tables) {
  const bool is_asked = !options.prefill.empty() || !options.compress.empty() ||
                        !options.retrieve.empty() || !options.loading.empty();
  const engine::StageNeeds needs{
      .chunked_prefill = true, .prefix_reuse = true, .batching = true, .gpu = on_gpu};
  Matrix matrix{.rows = is_asked || !each_method ? combinations(options) : one_by_one(tables),
                .refused = {}};
  for (size_t row = 0; row < matrix.rows.size();) {
    Result<void> checked;
    for (const int64_t length : lengths)
      if (checked) checked = engine::check_stages(matrix.rows[row].at(length), needs, tables);
    if (checked) {
      ++row;
      continue;
    }
    // What can never be is the caller's mistake; what does not go together is left out.
    if (checked.error().code() != ErrorCode::kUnsupported && is_asked) throw checked.error();
    matrix.refuse(row, checked.error());
  }
  return matrix;
}

}  // namespace kvasir::eval

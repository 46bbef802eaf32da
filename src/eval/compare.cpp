#include "eval/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>

namespace kvasir::eval {
namespace {

constexpr double kLevel = 0.05;

using Groups = std::vector<std::vector<double>>;
using Side = std::vector<const Outcome*>;
using Key = std::tuple<std::string, std::string, std::string, int64_t, Mode>;  // methods first

struct Both {
  Side first, second;
};

// In the order of the first run's outcomes.
class Cells {
 public:
  void add(const Outcome& outcome, Side Both::* side) {
    const Key key{method_id(outcome), outcome.suite, outcome.task, outcome.length, outcome.mode};
    const auto [place, is_new] = places_.emplace(key, cells_.size());
    if (is_new) cells_.emplace_back();
    (cells_[place->second].*side).push_back(&outcome);
  }
  const std::vector<Both>& cells() const { return cells_; }

 private:
  std::map<Key, size_t> places_;
  std::vector<Both> cells_;
};

// Which session: questions of one depend on each other.
std::tuple<int64_t, double> session_of(const Outcome& outcome) {
  return {outcome.session, outcome.depth};
}

template <class T, class Value>
Groups by_session(const std::vector<T>& items, Value&& value) {
  std::map<std::tuple<int64_t, double>, std::vector<double>> sessions;
  for (const T& item : items) {
    const auto [session, found] = value(item);
    sessions[session].push_back(found);
  }
  Groups groups;
  for (auto& [session, values] : sessions) groups.push_back(std::move(values));
  return groups;
}

using Pair = std::pair<const Outcome*, const Outcome*>;

// The same question is asked for the same answer; made of another seed, it is another one.
std::vector<Pair> pairs_of(const Both& cell) {
  std::unordered_map<std::string, const Outcome*> second;
  for (const Outcome* outcome : cell.second) second.emplace(question_id(*outcome), outcome);
  std::vector<Pair> pairs;
  for (const Outcome* outcome : cell.first) {
    const auto found = second.find(question_id(*outcome));
    if (found != second.end() && found->second->reference == outcome->reference)
      pairs.emplace_back(outcome, found->second);
  }
  return pairs;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

ComparedCell frame_of(const Both& cell, const char* figure) {
  const Outcome& any = *cell.first.front();
  return {.row = row_of(any),
          .suite = any.suite,
          .task = any.task,
          .length = any.length,
          .mode = any.mode,
          .figure = figure};
}

ComparedCell accuracy_of(const Both& cell, const std::vector<Pair>& pairs) {
  ComparedCell compared = frame_of(cell, "accuracy");
  compared.is_paired = !pairs.empty();
  if (compared.is_paired) {
    compared.questions = std::ssize(pairs);
    for (const auto& [first, second] : pairs) {
      compared.first += first->score / static_cast<double>(pairs.size());
      compared.second += second->score / static_cast<double>(pairs.size());
    }
    compared.difference = paired_difference(by_session(pairs, [](const Pair& pair) {
      return std::pair(session_of(*pair.first), pair.second->score - pair.first->score);
    }));
    return compared;
  }
  compared.questions = std::ssize(cell.second);
  for (const Outcome* one : cell.first)
    compared.first += one->score / static_cast<double>(cell.first.size());
  for (const Outcome* one : cell.second)
    compared.second += one->score / static_cast<double>(cell.second.size());
  const auto score = [](const Outcome* one) { return std::pair(session_of(*one), one->score); };
  compared.difference =
      unpaired_difference(by_session(cell.first, score), by_session(cell.second, score));
  return compared;
}

double ttft(const Outcome& outcome) { return outcome.ttft_seconds; }
double decoding(const Outcome& outcome) {
  if (outcome.completion_tokens < 2) return 0;
  return outcome.decode_seconds / static_cast<double>(outcome.completion_tokens - 1);
}

// Ratios of times that both have, on a scale of logarithms.
std::optional<ComparedCell> times_of(const Both& cell, const std::vector<Pair>& pairs,
                                     const char* figure, double (*seconds)(const Outcome&)) {
  std::vector<Pair> timed;
  std::vector<double> first, second;
  for (const Pair& pair : pairs) {
    const double a = seconds(*pair.first), b = seconds(*pair.second);
    if (!pair.first->error.empty() || !pair.second->error.empty() || a <= 0 || b <= 0) continue;
    timed.push_back(pair);
    first.push_back(a);
    second.push_back(b);
  }
  if (timed.empty()) return std::nullopt;
  ComparedCell compared = frame_of(cell, figure);
  compared.questions = std::ssize(timed);
  compared.first = median(std::move(first));
  compared.second = median(std::move(second));
  const Groups groups = by_session(timed, [&](const Pair& pair) {
    return std::pair(session_of(*pair.first),
                     std::log(seconds(*pair.second) / seconds(*pair.first)));
  });
  Difference& found = compared.difference = paired_difference(groups);
  const bool is_one_ratio = std::ranges::all_of(groups, [&](const auto& group) {
    return std::ranges::all_of(group,
                               [&](double log) { return std::abs(log - groups[0][0]) < 1e-12; });
  });
  if (is_one_ratio) found.interval = {found.value, found.value};
  found.value = std::exp(found.value);
  found.interval = groups.size() < 2 ? report::Interval{0, HUGE_VAL}
                                     : report::Interval{std::exp(found.interval.low),
                                                        std::exp(found.interval.high)};
  return compared;
}

void judge(std::vector<ComparedCell>& cells) {
  std::vector<double> p;
  for (const ComparedCell& cell : cells) p.push_back(cell.difference.p);
  const std::vector<double> adjusted = holm(p);
  for (size_t i = 0; i < cells.size(); ++i) {
    ComparedCell& cell = cells[i];
    cell.adjusted_p = adjusted[i];
    if (adjusted[i] >= kLevel) continue;
    const bool is_better =
        cell.figure == "accuracy" ? cell.difference.value > 0 : cell.difference.value < 1;
    cell.verdict = is_better ? Verdict::kBetter : Verdict::kWorse;
  }
}

std::string count_of(int64_t count, const char* one, const char* many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  constexpr const char* kNames[] = {"", "better", "worse"};
  return kNames[static_cast<size_t>(verdict)];
}

Result<Comparison> compare(std::span<const Outcome> first, std::span<const Outcome> second) {
  for (const auto& [outcomes, name] : {std::pair{first, "first"}, std::pair{second, "second"}})
    if (outcomes.empty())
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("expected outcomes in both runs, found none in the {}", name));
  Cells cells;
  for (const Outcome& outcome : first) cells.add(outcome, &Both::first);
  for (const Outcome& outcome : second) cells.add(outcome, &Both::second);
  Comparison comparison;
  int64_t only_first = 0, only_second = 0, unpaired = 0, left_out = 0;
  for (const Both& cell : cells.cells()) {
    only_first += cell.second.empty();
    only_second += cell.first.empty();
    if (cell.first.empty() || cell.second.empty()) continue;
    const std::vector<Pair> pairs = pairs_of(cell);
    unpaired += pairs.empty();
    if (!pairs.empty())
      left_out += std::ssize(cell.first) + std::ssize(cell.second) - 2 * std::ssize(pairs);
    comparison.cells.push_back(accuracy_of(cell, pairs));
    if (auto found = times_of(cell, pairs, "ttft", ttft)) comparison.cells.push_back(*found);
    if (auto found = times_of(cell, pairs, "decoding", decoding))
      comparison.cells.push_back(*found);
  }
  if (comparison.cells.empty())
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected runs with methods, suite, task, length and mode in common, "
                             "found none; the first has {} ({}), the second {} ({})",
                             first.front().suite, row_name(row_of(first.front())),
                             second.front().suite, row_name(row_of(second.front()))));
  judge(comparison.cells);
  const auto note = [&](int64_t count, std::string text) {
    if (count > 0) comparison.notes.push_back(std::move(text));
  };
  note(unpaired, count_of(unpaired, "cell has", "cells have") +
                     " no question in common: their accuracies are compared unpaired, their times "
                     "are not");
  note(left_out,
       count_of(left_out, "answer", "answers") + " without a counterpart left out of paired cells");
  note(only_first, count_of(only_first, "cell is", "cells are") + " in the first run alone");
  note(only_second, count_of(only_second, "cell is", "cells are") + " in the second run alone");
  return comparison;
}

}  // namespace kvasir::eval

#include "eval/summary.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "tasks/random.h"
#include "tasks/registry.h"

namespace kvasir::eval {
namespace {

constexpr int kResamples = 10000;

// A method as text, empty where it is the one that changes nothing: sorts first.
std::string unless(const std::string& method, const char* plain) {
  return method == plain ? std::string() : method;
}

auto order_of(const MethodRow& row) {
  return std::tuple(unless(row.prefill, "dense"), unless(row.compress, "plain"),
                    unless(row.retrieve, "dense"), unless(row.loading, "resident"));
}

// What one session adds to a cell.
struct SessionSums {
  double score = 0, questions = 0;
  double difference = 0, shared = 0;  // from the first row, of the questions that both have
};

// The sessions of one task.
using Stratum = std::vector<SessionSums>;

struct Estimate {
  double accuracy = 0, difference = 0;
};

// The mean over tasks; where tasks share no question, they say nothing about a difference.
template <class Pick>
Estimate estimate(const std::vector<Stratum>& strata, Pick&& pick) {
  Estimate mean;
  double comparable = 0;
  for (const Stratum& sessions : strata) {
    SessionSums sum;
    for (size_t i = 0; i < sessions.size(); ++i) {
      const SessionSums& one = sessions[pick(i, sessions.size())];
      sum.score += one.score;
      sum.questions += one.questions;
      sum.difference += one.difference;
      sum.shared += one.shared;
    }
    mean.accuracy += sum.score / sum.questions / static_cast<double>(strata.size());
    if (sum.shared == 0) continue;
    mean.difference += sum.difference / sum.shared;
    ++comparable;
  }
  if (comparable > 0) mean.difference /= comparable;
  return mean;
}

report::Interval middle_95(std::vector<double>& values) {
  const auto at = [&](double share) {
    const auto place = values.begin() + std::lround(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), place, values.end());
    return *place;
  };
  return {at(0.025), at(0.975)};
}

bool is_alike(const std::vector<Stratum>& strata, double SessionSums::* sum,
              double SessionSums::* count) {
  for (const Stratum& sessions : strata)
    for (const SessionSums& session : sessions)
      if (session.*sum * sessions.front().*count != sessions.front().*sum * session.*count)
        return false;
  return true;
}

bool is_one_binary_question_each(const std::vector<Stratum>& strata) {
  const auto is_binary = [](const SessionSums& session) {
    return session.questions == 1 && (session.score == 0 || session.score == 1) &&
           (session.shared == 0 || std::abs(session.difference) == 1 || session.difference == 0);
  };
  return strata.size() == 1 && std::ranges::all_of(strata.front(), is_binary);
}

struct Intervals {
  report::Interval accuracy, difference;
};

Intervals bootstrap(const std::vector<Stratum>& strata) {
  tasks::Random random(0, "bootstrap", 0);
  std::vector<double> accuracies, differences;
  for (int resample = 0; resample < kResamples; ++resample) {
    const Estimate drawn =
        estimate(strata, [&](size_t, size_t size) { return random.below(size); });
    accuracies.push_back(drawn.accuracy);
    differences.push_back(drawn.difference);
  }
  return {middle_95(accuracies), middle_95(differences)};
}

Intervals intervals(const std::vector<Stratum>& strata, const Estimate& found) {
  int64_t sessions = 0, gained = 0, lost = 0, shared = 0;
  for (const Stratum& stratum : strata)
    for (const SessionSums& session : stratum) {
      ++sessions;
      shared += session.shared > 0;
      gained += session.difference > 0;
      lost += session.difference < 0;
    }
  const auto of_all = [](double share, int64_t count) {
    return std::llround(share * static_cast<double>(count));
  };
  const bool closed = is_one_binary_question_each(strata);
  const bool alike = is_alike(strata, &SessionSums::score, &SessionSums::questions);
  const bool differ_alike = is_alike(strata, &SessionSums::difference, &SessionSums::shared);
  Intervals result;
  if (!closed && !(alike && differ_alike)) result = bootstrap(strata);
  if (closed || alike)
    result.accuracy = report::wilson_interval(of_all(found.accuracy, sessions), sessions);
  if (closed)
    result.difference = report::paired_interval(gained, lost, shared);
  else if (differ_alike || shared == 0)
    result.difference =
        report::paired_interval(of_all(std::max(found.difference, 0.0), shared),
                                of_all(std::max(-found.difference, 0.0), shared), shared);
  return result;
}

// Means over the questions that have an answer.
void add_means(std::span<const Outcome* const> outcomes, SummaryCell& cell) {
  double answered = 0, steps = 0, computed = 0, fraction = 0;
  for (const Outcome* outcome : outcomes) {
    cell.kv_bytes = std::max(cell.kv_bytes, outcome->kv_bytes);
    cell.published += outcome->published / static_cast<double>(outcomes.size());
    if (!outcome->error.empty()) {
      ++cell.errors;
      continue;
    }
    ++answered;
    cell.prompt_tokens += static_cast<double>(outcome->prompt_tokens);
    cell.cached_tokens += static_cast<double>(outcome->cached_tokens);
    cell.completion_tokens += static_cast<double>(outcome->completion_tokens);
    cell.ttft_seconds += outcome->ttft_seconds;
    cell.decode_seconds += outcome->decode_seconds;
    steps += static_cast<double>(std::max<int64_t>(0, outcome->completion_tokens - 1));
    const auto fresh = static_cast<double>(outcome->prompt_tokens - outcome->cached_tokens);
    computed += fresh;
    fraction += fresh * outcome->computed_fraction;
  }
  if (steps > 0) cell.seconds_per_token = cell.decode_seconds / steps;
  if (computed > 0) cell.computed_fraction = fraction / computed;
  if (answered == 0) return;
  for (double* sum : {&cell.prompt_tokens, &cell.cached_tokens, &cell.completion_tokens,
                      &cell.ttft_seconds, &cell.decode_seconds})
    *sum /= answered;
}

// Tasks that the suite does not know come behind it.
size_t place_in_suite(const std::string& suite, const std::string& task) {
  const auto found = tasks::find_suite(suite);
  if (!found) return 0;
  const std::vector<tasks::Task>& all = found.value()->tasks;
  return static_cast<size_t>(std::ranges::find(all, task, &tasks::Task::name) - all.begin());
}

class Summarizer {
 public:
  explicit Summarizer(std::span<const Outcome> outcomes) {
    for (const Outcome& outcome : outcomes) {
      if (std::ranges::find(summary_.rows, row_of(outcome)) == summary_.rows.end())
        summary_.rows.push_back(row_of(outcome));
      Group& group = group_of(outcome);
      if (std::ranges::find(group.tasks, outcome.task) == group.tasks.end())
        group.tasks.push_back(outcome.task);
      group.outcomes.push_back(&outcome);
    }
    std::ranges::sort(summary_.rows, {}, order_of);
    std::ranges::sort(groups_, [this](const Group& a, const Group& b) {
      return std::tuple(suite_index(a.suite), a.length, a.mode) <
             std::tuple(suite_index(b.suite), b.length, b.mode);
    });
  }

  Summary run() {
    for (Group& group : groups_) {
      std::ranges::sort(group.tasks, {}, [&](const std::string& task) {
        return std::pair(place_in_suite(group.suite, task), task);
      });
      add_group(group);
    }
    return std::move(summary_);
  }

 private:
  // One suite, length and mode.
  struct Group {
    std::string suite;
    int64_t length = 0;
    Mode mode = Mode::kMultiTurn;
    std::vector<std::string> tasks;
    std::vector<const Outcome*> outcomes;
  };
  // Which question: task, session, turn, depth.
  using Question = std::tuple<std::string, int64_t, int64_t, double>;
  static Question question_of(const Outcome& outcome) {
    return {outcome.task, outcome.session, outcome.turn, outcome.depth};
  }

  Group& group_of(const Outcome& outcome) {
    for (Group& group : groups_)
      if (group.suite == outcome.suite && group.length == outcome.length &&
          group.mode == outcome.mode)
        return group;
    if (std::ranges::find(suites_, outcome.suite) == suites_.end())
      suites_.push_back(outcome.suite);
    return groups_.emplace_back(Group{.suite = outcome.suite,
                                      .length = outcome.length,
                                      .mode = outcome.mode,
                                      .tasks = {},
                                      .outcomes = {}});
  }
  int64_t suite_index(const std::string& suite) const {
    return std::ranges::find(suites_, suite) - suites_.begin();
  }

  void add_group(const Group& group) {
    std::set<int64_t> turns{-1};
    std::set<double> depths;
    by_row_.assign(summary_.rows.size(), {});
    first_.clear();
    for (const Outcome* outcome : group.outcomes) {
      const auto row = static_cast<size_t>(std::ranges::find(summary_.rows, row_of(*outcome)) -
                                           summary_.rows.begin());
      by_row_[row].push_back(outcome);
      if (row == 0) first_[question_of(*outcome)] = outcome->score;
      turns.insert(outcome->turn);
      if (outcome->depth >= 0) depths.insert(outcome->depth);
    }
    std::vector<std::string> tasks = group.tasks;
    tasks.insert(tasks.begin(), std::string());
    for (const std::string& task : tasks) {
      CellKey key{.suite = group.suite, .task = task, .length = group.length, .mode = group.mode};
      for (const int64_t turn : turns) {
        key.turn = turn;
        add_cells(key);
      }
      key.turn = -1;
      for (const double depth : depths) {
        key.depth = depth;
        add_cells(key);
      }
    }
  }

  void add_cells(const CellKey& key) {
    bool is_judged = false;
    for (size_t row = 0; row < by_row_.size(); ++row) {
      std::vector<const Outcome*> outcomes;
      std::ranges::copy_if(by_row_[row], std::back_inserter(outcomes), [&](const Outcome* outcome) {
        return (key.task.empty() || outcome->task == key.task) &&
               (key.turn < 0 || outcome->turn == key.turn) &&
               (key.depth < 0 || outcome->depth == key.depth);
      });
      if (outcomes.empty()) continue;
      SummaryCell cell = make_cell(key, outcomes);
      cell.row = row;
      if (row == 0)
        is_judged = cell.accuracy >= kLeastAccuracy && cell.questions >= kLeastQuestions;
      cell.is_judged = is_judged && cell.questions >= kLeastQuestions;
      if (row == 0) cell.difference_interval = {0, 0};
      summary_.cells.push_back(std::move(cell));
    }
  }

  SummaryCell make_cell(const CellKey& key, std::span<const Outcome* const> outcomes) const {
    std::map<std::string, std::map<std::pair<int64_t, double>, SessionSums>> sums;
    for (const Outcome* outcome : outcomes) {
      SessionSums& session = sums[outcome->task][{outcome->session, outcome->depth}];
      session.score += outcome->score;
      ++session.questions;
      const auto first = first_.find(question_of(*outcome));
      if (first == first_.end()) continue;
      session.difference += outcome->score - first->second;
      ++session.shared;
    }
    std::vector<Stratum> strata;
    SummaryCell cell{.key = key, .interval = {}, .difference_interval = {}};
    for (const auto& [task, sessions] : sums) {
      Stratum& stratum = strata.emplace_back();
      for (const auto& [which, session] : sessions) stratum.push_back(session);
      cell.sessions += std::ssize(stratum);
    }
    const Estimate found = estimate(strata, [](size_t i, size_t) { return i; });
    const Intervals around = intervals(strata, found);
    cell.questions = std::ssize(outcomes);
    cell.accuracy = found.accuracy;
    cell.interval = around.accuracy;
    cell.difference = found.difference;
    cell.difference_interval = around.difference;
    add_means(outcomes, cell);
    return cell;
  }

  Summary summary_;
  std::vector<std::string> suites_;
  std::vector<Group> groups_;
  // Of the group at hand.
  std::vector<std::vector<const Outcome*>> by_row_;
  std::map<Question, double> first_;  // scores of the first row
};

}  // namespace

MethodRow row_of(const Outcome& outcome) {
  return {outcome.prefill, outcome.compress, outcome.retrieve, outcome.loading};
}

std::string row_name(const MethodRow& row) {
  const auto [prefill, compress, retrieve, loading] = order_of(row);
  std::string name;
  for (const std::string& part : {prefill, compress, retrieve, loading})
    if (!part.empty()) name += (name.empty() ? "" : " + ") + part;
  return name.empty() ? "dense" : name;
}

const SummaryCell* Summary::find(size_t row, const CellKey& key) const {
  const auto found = std::ranges::find_if(
      cells, [&](const SummaryCell& cell) { return cell.row == row && cell.key == key; });
  return found == cells.end() ? nullptr : &*found;
}

Summary summarize(std::span<const Outcome> outcomes) { return Summarizer(outcomes).run(); }

}  // namespace kvasir::eval

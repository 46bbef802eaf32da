#pragma once
// Outcomes to figures: accuracy with its interval, and how far a row of methods is from the first.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "eval/outcome.h"
#include "report/interval.h"

namespace kvasir::eval {

// One combination of methods, as typed: a row of the matrix.
struct MethodRow {
  std::string prefill, compress, retrieve, loading;
  bool operator==(const MethodRow&) const = default;
};
MethodRow row_of(const Outcome& outcome);
// What differs from dense, plain, dense, resident, joined by " + "; "dense" where nothing does.
std::string row_name(const MethodRow& row);

// Which questions a cell is about.
struct CellKey {
  std::string suite;
  std::string task;  // empty: all tasks, each with the same weight
  int64_t length = 0;
  Mode mode = Mode::kMultiTurn;
  int64_t turn = -1;  // -1: all turns
  double depth = -1;  // -1: all depths, or it does not apply
  bool operator==(const CellKey&) const = default;
};

struct SummaryCell {
  size_t row = 0;  // of Summary::rows
  CellKey key;

  int64_t sessions = 0, questions = 0;
  int64_t errors = 0;         // of the questions, those without an answer: they count as wrong
  double accuracy = 0;        // mean of the strict score over the questions
  report::Interval interval;  // of `accuracy`, 95 %
  double published = 0;       // mean of the published score
  // Accuracy minus that of the first row on the questions that both have, with its interval. Zero,
  // and of no width, in the first row; [-1, 1] where they share none.
  double difference = 0;
  report::Interval difference_interval{0, 0};
  // Whether the first row is good enough and the questions are many enough to judge the row by.
  bool is_judged = false;

  // Means over the questions that have an answer.
  double prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double ttft_seconds = 0, decode_seconds = 0;
  double seconds_per_token = 0;  // of decoding: of all tokens but each answer's first
  double computed_fraction = 0;  // weighted by the tokens of the prompt that were not cached
  int64_t kv_bytes = 0;          // the most of any
};

struct Summary {
  // By what differs from dense, plain, dense, resident, so that a row without any difference is the
  // first, whatever the order in which answers came.
  std::vector<MethodRow> rows;
  // Of each row, suite, length and mode: each task and all tasks, over all turns and of each turn;
  // where there are depths, each of them over all turns as well. Suites in the order of their first
  // outcomes, tasks as in the suite, lengths, modes, turns and depths ascending, "all" first; a
  // key's rows lie side by side.
  std::vector<SummaryCell> cells;

  const SummaryCell* find(size_t row, const CellKey& key) const;  // null: there is none
};

// The first row has to reach this accuracy, on this many questions, before others are judged by it.
inline constexpr double kLeastAccuracy = 0.95;
inline constexpr int64_t kLeastQuestions = 200;

// Intervals: Wilson's, and Agresti and Min's of differences, where each session is one question
// that is right or wrong; otherwise the bootstrap over sessions, whose questions depend on each
// other (10,000 resamples, always the same ones). Where all sessions are alike the bootstrap knows
// no spread, and sessions count as questions.
Summary summarize(std::span<const Outcome> outcomes);

}  // namespace kvasir::eval

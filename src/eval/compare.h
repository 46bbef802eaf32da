#pragma once
// Two runs beside each other: what got better or worse beyond noise.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "eval/summary.h"

namespace kvasir::eval {

// What a difference comes to. p-values are two-sided.
struct Difference {
  double value = 0;
  report::Interval interval{-1, 1};  // 95 %, of this one alone
  double p = 1;
};

// Of paired values, whose groups (sessions) are independent and whose members are not: the mean of
// `values` against 0, with the spread of groups as the error and Student's t of groups - 1 degrees.
// Where each group is one of -1, 0, 1 it is exact: a sign test (McNemar 1947), and Agresti and
// Min's interval. One group alone says nothing: p is 1.
Difference paired_difference(std::span<const std::vector<double>> groups);
// Of shares that have nothing in common: second minus first, with Agresti and Caffo's error (2000)
// where groups within a side are all alike, Welch's degrees of freedom otherwise.
Difference unpaired_difference(std::span<const std::vector<double>> first,
                               std::span<const std::vector<double>> second);
// Two-sided tail of Student's t.
double student_p(double t, double degrees);
// p-values adjusted for there being many of them (Holm 1979).
std::vector<double> holm(std::span<const double> p);

enum class Verdict : uint8_t { kSame, kBetter, kWorse };
const char* verdict_name(Verdict verdict);  // "", "better", "worse"

struct ComparedCell {
  MethodRow row;
  std::string suite, task;
  int64_t length = 0;
  Mode mode = Mode::kMultiTurn;
  std::string figure;  // "accuracy", "ttft", "decoding": times as ratios of the second to the first
  bool is_paired = true;
  int64_t questions = 0;         // that count: of pairs, or of the second run
  double first = 0, second = 0;  // means of accuracy; medians of seconds
  Difference difference;         // of accuracy; of times the ratio, 1 is none
  double adjusted_p = 1;
  Verdict verdict = Verdict::kSame;  // by adjusted_p < 0.05
};

struct Comparison {
  std::vector<ComparedCell> cells;
  std::vector<std::string> notes;
};

// Cells of method row, suite, task, length and mode that both have. Questions with the same
// reference are paired; where none are, the whole cells are compared, with a note. Errors:
// kInvalidArgument where either is empty or they have no cell in common.
Result<Comparison> compare(std::span<const Outcome> first, std::span<const Outcome> second);

// Of two folders or files of outcomes, or two records of speed (`kvasir bench ... --record`), whose
// lines differ where the times of their repetitions do not overlap. What the folders' run.json have
// apart becomes a note. Throws Error.
struct ComparisonText {
  std::string tables, json;
};
ComparisonText compare_files(const std::filesystem::path& first,
                             const std::filesystem::path& second, size_t width);

}  // namespace kvasir::eval

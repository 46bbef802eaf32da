// Statistics of comparisons against closed forms; what two runs and two records come to.

#include "eval/compare.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "eval/made_outcomes.h"

namespace kvasir::eval {
namespace {

using Groups = std::vector<std::vector<double>>;

int64_t verdicts(const Comparison& comparison, const std::string& figure, Verdict verdict) {
  return std::ranges::count_if(comparison.cells, [&](const ComparedCell& cell) {
    return cell.figure == figure && cell.verdict == verdict;
  });
}

TEST(Differences, TailsOfStudentsT) {
  EXPECT_NEAR(student_p(1, 1), 0.5, 1e-12);  // Cauchy: 1 - 2 atan(t) / pi
  EXPECT_NEAR(student_p(-3, 1), 1 - 2 * std::atan(3.0) / M_PI, 1e-12);
  EXPECT_NEAR(student_p(2, 2), 1 - 2 / std::sqrt(6.0), 1e-12);
  EXPECT_NEAR(student_p(1.959963984540054, 1e7), 0.05, 1e-6);
  EXPECT_NEAR(student_p(0, 5), 1, 1e-12);
}

TEST(Differences, SessionsOfOneQuestionHaveTheSignTest) {
  const Groups groups{{1}, {1}, {1}, {1}, {1}, {0}, {0}, {0}, {0}, {-1}};
  const Difference found = paired_difference(groups);
  EXPECT_NEAR(found.value, 0.4, 1e-12);
  EXPECT_NEAR(found.p, 2 * (1 + 6) / 64.0, 1e-12);
  const report::Interval interval = report::paired_interval(5, 1, 10);
  EXPECT_EQ(found.interval.low, interval.low);
  EXPECT_EQ(found.interval.high, interval.high);
}

TEST(Differences, SessionsAreTheSample) {
  const double error = 0.2 / std::sqrt(3.0), t = 0.3 / error;
  const double tail = 1 - t / std::sqrt(2 + t * t);
  const double reach = 4.302652729749464 * error;  // t of 2 degrees, both sides 2.5 %
  for (const Groups& groups :
       {Groups{{0.5}, {0.1}, {0.3}}, Groups{{0.4, 0.6}, {0, 0.2}, {0.3, 0.3}}}) {
    const Difference found = paired_difference(groups);
    EXPECT_NEAR(found.value, 0.3, 1e-12);
    EXPECT_NEAR(found.p, tail, 1e-9);
    EXPECT_NEAR(found.interval.low, 0.3 - reach, 1e-9);
    EXPECT_NEAR(found.interval.high, 0.3 + reach, 1e-9);
  }
  EXPECT_EQ(paired_difference(Groups{{1, 1, 1, 1, 1, 1, 1, 1}}).p, 1) << "one session alone";
  // Five sessions that all gain as much: one in 2^4 by chance.
  EXPECT_NEAR(paired_difference(Groups(5, {1, 0})).p, 2.0 / 32, 1e-12);
}

TEST(Differences, ApartWithoutPairs) {
  // Welch: means 0.2 and 0.7, errors 0.1 each, 4 degrees.
  const double away = 0.1 * std::sqrt(3.0);
  const Groups a{{0.2 - away}, {0.2}, {0.2 + away}}, b{{0.7 - away}, {0.7}, {0.7 + away}};
  const Difference found = unpaired_difference(a, b);
  EXPECT_NEAR(found.value, 0.5, 1e-12);
  EXPECT_NEAR(found.p, student_p(0.5 / std::sqrt(0.02), 4), 1e-12);
  // No spread: Agresti and Caffo's shares, 1 of 12 and 11 of 12.
  const Difference alike = unpaired_difference(Groups(10, {0}), Groups(10, {1}));
  EXPECT_NEAR(alike.p, student_p(1 / std::sqrt(2 * 11.0 / 144 / 12), 18), 1e-12);
  EXPECT_EQ(alike.interval.high, 1);
  EXPECT_EQ(unpaired_difference(Groups(10, {1}), Groups(10, {1})).p, 1);
}

TEST(Differences, HolmAdjusts) {
  const std::vector<double> p{0.01, 0.04, 0.03, 0.9};
  const std::vector<double> adjusted = holm(p), expected{0.04, 0.09, 0.09, 0.9};
  for (size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(adjusted[i], expected[i], 1e-12);
  EXPECT_TRUE(holm({}).empty());
}

TEST(Compare, ARunIsLikeItself) {
  const auto run = made_outcomes({.tasks = {"kv", "ps"}, .rows = 2, .turns = 3}, 1);
  const Comparison found = compare(run, run).value();
  ASSERT_EQ(found.cells.size(), 2u * 2 * 3);
  for (const ComparedCell& cell : found.cells) {
    EXPECT_TRUE(cell.is_paired);
    EXPECT_EQ(cell.questions, 60);
    EXPECT_EQ(cell.first, cell.second);
    EXPECT_EQ(cell.adjusted_p, 1);
    EXPECT_EQ(cell.verdict, Verdict::kSame);
  }
  EXPECT_TRUE(found.notes.empty());
}

TEST(Compare, FindsWhatGotWorseAndSlower) {
  const auto a = made_outcomes({.sessions = 100, .turns = 2}, 1);
  const auto b = made_outcomes({.sessions = 100, .turns = 2, .accuracy = 0.6, .slower = 1.5}, 2);
  const Comparison there = compare(a, b).value(), back = compare(b, a).value();
  for (const char* figure : {"accuracy", "ttft", "decoding"}) {
    EXPECT_EQ(verdicts(there, figure, Verdict::kWorse), 1) << figure;
    EXPECT_EQ(verdicts(back, figure, Verdict::kBetter), 1) << figure;
  }
  EXPECT_NEAR(there.cells[1].difference.value, 1.5, 0.05);
  EXPECT_LT(there.cells[1].difference.interval.low, 1.5);
}

// Of runs of the same accuracy at most about one comparison in twenty finds anything.
TEST(Compare, NoiseIsNoDifference) {
  int alarms = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Made made{.tasks = {"kv", "ps", "hop"}, .rows = 3, .sessions = 15, .turns = 3};
    const Comparison found =
        compare(made_outcomes(made, 2 * seed), made_outcomes(made, 2 * seed + 1)).value();
    alarms += verdicts(found, "accuracy", Verdict::kBetter) +
                  verdicts(found, "accuracy", Verdict::kWorse) >
              0;
  }
  EXPECT_LE(alarms, 8);  // of 60 by 5 % more than 8 come once in 400 times
}

TEST(Compare, OtherQuestionsAreNoPairs) {
  const auto a = made_outcomes({.sessions = 30}, 1);
  auto b = made_outcomes({.sessions = 30, .accuracy = 0.2}, 2);
  for (Outcome& outcome : b) outcome.reference += "0";
  const Comparison found = compare(a, b).value();
  ASSERT_EQ(found.cells.size(), 1u) << "times of other questions are not compared";
  EXPECT_FALSE(found.cells[0].is_paired);
  EXPECT_EQ(found.cells[0].verdict, Verdict::kWorse);
  ASSERT_EQ(found.notes.size(), 1u);
  EXPECT_NE(found.notes[0].find("unpaired"), std::string::npos);
}

TEST(Compare, RefusesRunsWithNothingInCommon) {
  const auto a = made_outcomes({}, 1), b = made_outcomes({.lengths = {2048}}, 1);
  EXPECT_EQ(compare(a, b).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(compare(a, {}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(compare({}, b).error().code(), ErrorCode::kInvalidArgument);
}

class CompareFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "compare-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path run(const std::string& name, const Made& made, int seed) {
    std::filesystem::create_directory(folder_ / name);
    std::string text;
    for (const Outcome& outcome : made_outcomes(made, 1)) text += to_json_line(outcome) + "\n";
    write_file(folder_ / name / "outcomes.jsonl", text).value();
    write_file(folder_ / name / "run.json", nlohmann::json{{"seed", seed}}.dump()).value();
    return folder_ / name;
  }
  std::filesystem::path record(const std::string& name, double scale,
                               const char* benchmark = "decode") {
    const nlohmann::json json{{"benchmark", benchmark},
                              {"lines",
                               {{{"name", "model at 128"},
                                 {"seconds",
                                  {{"median", 0.2 * scale},
                                   {"min", 0.19 * scale},
                                   {"max", 0.22 * scale},
                                   {"repetitions", 5}}}},
                                {{"name", "copy"}}}}};
    write_file(folder_ / name, json.dump()).value();
    return folder_ / name;
  }
  std::filesystem::path folder_;
};

TEST_F(CompareFilesTest, FoldersWithNotesOnWhatTheyWereAskedFor) {
  const auto found = compare_files(run("a", {}, 1), run("b", {.slower = 2}, 2), 120);
  EXPECT_NE(found.tables.find("seed: 1 and 2\n"), std::string::npos) << found.tables;
  EXPECT_NE(found.tables.find("3 cells were compared: 0 better, 2 worse."), std::string::npos)
      << found.tables;
  const auto json = nlohmann::json::parse(found.json);
  EXPECT_EQ(json["cells"].size(), 3u);
  EXPECT_EQ(json["adjustment"], "Holm");
  EXPECT_EQ(json["cells"][0]["verdict"], "same");
  EXPECT_NEAR(json["cells"][1]["change"].get<double>(), 2, 1e-9);
  // The file itself does as well.
  EXPECT_NO_THROW(compare_files(folder_ / "a" / "outcomes.jsonl", folder_ / "b", 120));
}

TEST_F(CompareFilesTest, RecordsOfSpeed) {
  const auto a = record("a.json", 1);
  const auto verdict = [&](double scale) {
    const auto found = compare_files(a, record("b.json", scale), 120);
    return nlohmann::json::parse(found.json)["lines"][0]["verdict"].get<std::string>();
  };
  EXPECT_EQ(verdict(1.1), "same") << "0.22 and 0.209 overlap";
  EXPECT_EQ(verdict(1.2), "worse");
  EXPECT_EQ(verdict(0.8), "better");
}

TEST_F(CompareFilesTest, Refusals) {
  const auto code = [&](const std::filesystem::path& a, const std::filesystem::path& b) {
    try {
      compare_files(a, b, 80);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  const auto a = run("a", {}, 1), b = run("b", {.suite = "ruler"}, 1);
  EXPECT_EQ(code(a, folder_ / "missing"), ErrorCode::kNotFound);
  EXPECT_EQ(code(a, b), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(a, record("record.json", 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(record("a.json", 1), record("b.json", 1, "prefill")), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(a, run("empty", {.sessions = 0}, 1)), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvasir::eval

// Statistics of outcomes against closed forms.

#include "eval/summary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace kvasir::eval {
namespace {

Outcome outcome(int64_t session, int64_t turn, double score, const std::string& prefill = "dense",
                const std::string& task = "kv") {
  return {.suite = "tiny",
          .task = task,
          .length = 1024,
          .session = session,
          .turn = turn,
          .prefill = prefill,
          .score = score,
          .published = score};
}

const CellKey kAll{.suite = "tiny", .task = "kv", .length = 1024};

TEST(Summary, OneQuestionASessionHasTheClosedForms) {
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 50; ++i) outcomes.push_back(outcome(i, 0, i < 45));
  for (int i = 0; i < 50; ++i) outcomes.push_back(outcome(i, 0, i >= 10 && i < 48, "sparse"));
  const Summary summary = summarize(outcomes);
  ASSERT_EQ(summary.rows.size(), 2u);
  const SummaryCell* dense = summary.find(0, kAll);
  const SummaryCell* sparse = summary.find(1, kAll);
  ASSERT_TRUE(dense && sparse);
  EXPECT_EQ(dense->questions, 50);
  EXPECT_EQ(dense->sessions, 50);
  EXPECT_DOUBLE_EQ(dense->accuracy, 0.9);
  EXPECT_EQ(dense->interval.low, report::wilson_interval(45, 50).low);
  EXPECT_EQ(dense->interval.high, report::wilson_interval(45, 50).high);
  EXPECT_EQ(dense->difference_interval.low, 0);
  EXPECT_EQ(dense->difference_interval.high, 0);
  EXPECT_NEAR(sparse->difference, -7.0 / 50, 1e-12);
  EXPECT_EQ(sparse->difference_interval.low, report::paired_interval(3, 10, 50).low);
  EXPECT_EQ(sparse->difference_interval.high, report::paired_interval(3, 10, 50).high);
}

// Sessions whose questions are all right or all wrong are worth one question each.
TEST(Summary, BootstrapHasTheWidthOfIndependentSessions) {
  constexpr int kSessions = 400, kTurns = 5;
  std::vector<Outcome> alike, apart;
  std::mt19937 random(7);
  std::bernoulli_distribution coin(0.5);
  for (int i = 0; i < kSessions; ++i) {
    const double same = coin(random);
    for (int turn = 0; turn < kTurns; ++turn) {
      alike.push_back(outcome(i, turn, same));
      apart.push_back(outcome(i, turn, coin(random)));
    }
  }
  const auto half_width = [](const std::vector<Outcome>& outcomes, int64_t turn) {
    CellKey key = kAll;
    key.turn = turn;
    const Summary summary = summarize(outcomes);
    const report::Interval& interval = summary.find(0, key)->interval;
    return (interval.high - interval.low) / 2;
  };
  const double of_session = 1.96 * 0.5 / std::sqrt(kSessions);
  EXPECT_NEAR(half_width(alike, -1), of_session, 0.06 * of_session);
  EXPECT_NEAR(half_width(apart, -1), of_session / std::sqrt(kTurns), 0.004);
  EXPECT_NEAR(half_width(alike, 3), of_session, 0.06 * of_session) << "one turn";
}

TEST(Summary, SessionsThatAreAllAlikeStillLeaveDoubt) {
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 40; ++i)
    for (int turn = 0; turn < 5; ++turn) {
      outcomes.push_back(outcome(i, turn, 1));
      outcomes.push_back(outcome(i, turn, 1, "sparse"));
    }
  const Summary summary = summarize(outcomes);
  const SummaryCell& sparse = *summary.find(1, kAll);
  EXPECT_EQ(sparse.interval.low, report::wilson_interval(40, 40).low) << "40 sessions, not 200";
  EXPECT_EQ(sparse.difference_interval.high, report::paired_interval(0, 0, 40).high);
  EXPECT_TRUE(sparse.is_judged);
}

TEST(Summary, TasksHaveTheSameWeight) {
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 30; ++i) outcomes.push_back(outcome(i, 0, 1));
  for (int i = 0; i < 10; ++i) outcomes.push_back(outcome(i, 0, i < 2, "dense", "ps"));
  const Summary summary = summarize(outcomes);
  const SummaryCell* all = summary.find(0, {.suite = "tiny", .task = {}, .length = 1024});
  ASSERT_TRUE(all);
  EXPECT_NEAR(all->accuracy, 0.6, 1e-12);
  EXPECT_EQ(all->questions, 40);
  // Half the deviation of the ten: the thirty have none.
  const double half = 1.96 * 0.5 * std::sqrt(0.2 * 0.8 / 10);
  EXPECT_NEAR(all->interval.high - all->interval.low, 2 * half, 0.35 * half);
}

TEST(Summary, RowsComeInTheirOwnOrderAndAnyOrderOfOutcomesIsTheSame) {
  std::vector<Outcome> outcomes;
  std::mt19937 random(3);
  for (int i = 0; i < 12; ++i)
    for (int turn = 0; turn < 3; ++turn)
      for (const char* prefill : {"xattention", "dense", "a_shape"})
        outcomes.push_back(outcome(i, turn, static_cast<double>(random() % 5) / 4, prefill));
  const Summary first = summarize(outcomes);
  ASSERT_EQ(first.rows.size(), 3u);
  EXPECT_EQ(row_name(first.rows[0]), "dense");
  EXPECT_EQ(row_name(first.rows[1]), "a_shape");
  std::shuffle(outcomes.begin(), outcomes.end(), random);
  const Summary second = summarize(outcomes);
  ASSERT_EQ(first.cells.size(), second.cells.size());
  EXPECT_EQ(first.cells.size(), 3u * 2 * 4) << "rows; the task and all; all turns and each";
  for (size_t i = 0; i < first.cells.size(); ++i) {
    EXPECT_EQ(first.cells[i].key, second.cells[i].key);
    EXPECT_EQ(first.cells[i].row, i % 3);
    EXPECT_NEAR(first.cells[i].accuracy, second.cells[i].accuracy, 1e-12);
    EXPECT_NEAR(first.cells[i].interval.low, second.cells[i].interval.low, 1e-12);
    EXPECT_NEAR(first.cells[i].difference_interval.high, second.cells[i].difference_interval.high,
                1e-12);
  }
}

TEST(Summary, NamesOfRowsHoldWhatDiffers) {
  EXPECT_EQ(row_name({"dense", "plain", "dense", "resident"}), "dense");
  EXPECT_EQ(row_name({"dense", "half:of=2", "dense", "resident"}), "half:of=2");
  EXPECT_EQ(row_name({"sparse", "plain", "index", "recompute"}), "sparse + index + recompute");
}

TEST(Summary, DifferencesAreOfTheQuestionsThatBothHave) {
  std::vector<Outcome> outcomes;
  for (int i = 0; i < 10; ++i) outcomes.push_back(outcome(i, 0, i < 5));
  for (int i = 5; i < 15; ++i) outcomes.push_back(outcome(i, 0, 1, "sparse"));
  const Summary summary = summarize(outcomes);
  EXPECT_DOUBLE_EQ(summary.find(1, kAll)->difference, 1) << "5 questions, all gained";
  EXPECT_EQ(summary.find(1, kAll)->difference_interval.low, report::paired_interval(5, 0, 5).low);
  for (Outcome& each : outcomes)
    if (each.prefill == "sparse") each.session += 100;
  const Summary nothing = summarize(outcomes);
  EXPECT_EQ(nothing.find(1, kAll)->difference_interval.low, -1);
  EXPECT_EQ(nothing.find(1, kAll)->difference_interval.high, 1);
}

TEST(Summary, JudgesWhereTheFirstRowIsGoodOnEnoughQuestions) {
  const auto is_judged = [](int questions, int right) {
    std::vector<Outcome> outcomes;
    for (int i = 0; i < questions; ++i) {
      outcomes.push_back(outcome(i, 0, i < right));
      outcomes.push_back(outcome(i, 0, 0, "sparse"));
    }
    return summarize(outcomes).find(1, kAll)->is_judged;
  };
  EXPECT_TRUE(is_judged(200, 190));
  EXPECT_FALSE(is_judged(200, 189));
  EXPECT_FALSE(is_judged(199, 199));
}

TEST(Summary, MeansAreOfQuestionsWithAnAnswer) {
  std::vector<Outcome> outcomes{outcome(0, 0, 1), outcome(1, 0, 0), outcome(2, 0, 0)};
  outcomes[0].prompt_tokens = 100;
  outcomes[0].cached_tokens = 0;
  outcomes[0].computed_fraction = 0.5;
  outcomes[0].completion_tokens = 11;
  outcomes[0].decode_seconds = 2;
  outcomes[0].ttft_seconds = 1;
  outcomes[0].kv_bytes = 5;
  outcomes[1].prompt_tokens = 110;
  outcomes[1].cached_tokens = 100;
  outcomes[1].computed_fraction = 1;
  outcomes[1].completion_tokens = 1;
  outcomes[1].ttft_seconds = 3;
  outcomes[1].kv_bytes = 7;
  outcomes[2].error = "no room";
  const Summary summary = summarize(outcomes);
  const SummaryCell& cell = *summary.find(0, kAll);
  EXPECT_EQ(cell.questions, 3);
  EXPECT_EQ(cell.errors, 1);
  EXPECT_NEAR(cell.accuracy, 1.0 / 3, 1e-12) << "no answer is wrong";
  EXPECT_DOUBLE_EQ(cell.prompt_tokens, 105);
  EXPECT_DOUBLE_EQ(cell.cached_tokens, 50);
  EXPECT_DOUBLE_EQ(cell.ttft_seconds, 2);
  EXPECT_DOUBLE_EQ(cell.seconds_per_token, 0.2) << "10 tokens came behind a first one";
  EXPECT_NEAR(cell.computed_fraction, (100 * 0.5 + 10 * 1.0) / 110, 1e-12);
  EXPECT_EQ(cell.kv_bytes, 7);
}

TEST(Summary, DepthsHaveCellsOfTheirOwn) {
  std::vector<Outcome> outcomes;
  for (int depth = 0; depth < 3; ++depth)
    for (int i = 0; i < 4; ++i) {
      outcomes.push_back(outcome(depth * 4 + i, 0, i < depth + 1));
      outcomes.back().depth = depth / 2.0;
    }
  const Summary summary = summarize(outcomes);
  CellKey key = kAll;
  for (int depth = 0; depth < 3; ++depth) {
    key.depth = depth / 2.0;
    ASSERT_TRUE(summary.find(0, key)) << depth;
    EXPECT_DOUBLE_EQ(summary.find(0, key)->accuracy, (depth + 1) / 4.0);
  }
  EXPECT_DOUBLE_EQ(summary.find(0, kAll)->accuracy, 0.5);
  EXPECT_EQ(summary.find(0, kAll)->sessions, 12);
}

TEST(Summary, OfNothingIsEmpty) {
  EXPECT_TRUE(summarize({}).rows.empty());
  EXPECT_TRUE(summarize({}).cells.empty());
}

}  // namespace
}  // namespace kvasir::eval

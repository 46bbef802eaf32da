// Suites of text over the shipped model: published files, needles, perplexity.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "eval/outcome_file.h"
#include "eval/perplexity.h"
#include "eval/runner.h"
#include "eval/summary.h"
#include "tasks/haystack.h"
#include "tasks/scbench.h"
#include "tasks/session_file.h"

namespace kvasir::eval {
namespace {

class Suites : public testing::Test {
 protected:
  Suites() {
    static int counter = 0;
    folder_ = std::filesystem::temp_directory_path() /
              ("kvasir-suites-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
    std::filesystem::create_directories(folder_ / "data");
  }
  ~Suites() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  RunOptions options(const std::string& suite) const {
    RunOptions options;
    options.suite = suite;
    options.engine.model = std::filesystem::path(KVASIR_SOURCE_DIR) / "models/bootstrap-16m";
    options.engine.device = "cpu";
    options.engine.threads = 1;
    options.out = folder_ / "out";
    return options;
  }
  RunHooks hooks() {
    return {.note = [this](const std::string& text) { notes_ += text + "\n"; },
            .cancelled = {},
            .progress = {}};
  }
  RunResult run(const RunOptions& options) {
    const RunHooks with = hooks();
    RunSetup setup = prepare(options, with);
    const auto engine = Engine::load(setup.engine);
    return eval::run(setup, *engine, with);
  }

  // Two sessions of about 700 tokens.
  void write_published() const {
    const auto count = [](std::string_view text) { return std::ssize(text) / 2; };
    const auto generator =
        tasks::make_scbench("scbench_kv", {.target_tokens = 700, .count = count, .turns = 3});
    std::ofstream file(folder_ / "data/scbench_kv.jsonl");
    for (uint64_t i = 0; i < 2; ++i)
      file << tasks::session_line(generator.value()->sample(0, i).value()) << "\n";
  }

  std::filesystem::path folder_;
  std::string notes_;
};

TEST_F(Suites, PublishedFilesHaveTheirOwnSessions) {
  write_published();
  RunOptions asked = options("scbench");
  asked.data_folder = folder_;
  asked.turns = 2;
  const RunResult whole = run(asked);
  EXPECT_TRUE(whole.is_finished);
  EXPECT_EQ(whole.outcomes.size(), 2u * 2) << "of 100 sessions asked for, two are there";
  EXPECT_NE(notes_.find("left out, as they have no file in --data-dir: scbench_prefix_suffix"),
            std::string::npos)
      << notes_;
  int64_t longest = 0;
  for (const Outcome& outcome : whole.outcomes) {
    EXPECT_EQ(outcome.length, 0);
    EXPECT_EQ(outcome.reference.size(), 36u) << "a UUID";
    longest = std::max(longest, outcome.prompt_tokens);
  }
  ASSERT_GT(longest, 800);

  asked.out = folder_ / "cut";
  asked.lengths = {600};
  asked.sessions = 1;
  for (const Outcome& outcome : run(asked).outcomes) {
    EXPECT_EQ(outcome.length, 600);
    if (outcome.turn == 0) {
      EXPECT_EQ(outcome.prompt_tokens, 600 - 2 * 150) << "answers have room";
    }
    EXPECT_LE(outcome.prompt_tokens + outcome.completion_tokens, 600);
    EXPECT_EQ(outcome.error, "");
  }

  asked.tasks = {"scbench_vt"};
  asked.out = folder_ / "none";
  try {
    run(asked);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound) << error.what();
  }
}

TEST_F(Suites, NeedlesLieAtEveryDepth) {
  RunOptions asked = options("needle");
  asked.lengths = {512};
  asked.depths = 3;
  asked.sessions = 2;
  const RunResult result = run(asked);
  std::set<std::pair<double, int64_t>> found;
  for (const Outcome& outcome : result.outcomes) found.emplace(outcome.depth, outcome.session);
  EXPECT_EQ(found, (std::set<std::pair<double, int64_t>>{
                       {0, 0}, {0, 1}, {0.5, 2}, {0.5, 3}, {1, 4}, {1, 5}}));
  const Summary summary = summarize(result.outcomes);
  EXPECT_TRUE(summary.find(0, {.suite = "needle", .task = "grid", .length = 512, .depth = 0.5}));
}

TEST_F(Suites, WhatDoesNotFitIntoALengthIsLeftOut) {
  RunOptions asked = options("ruler");
  asked.tasks = {"vt", "niah_single_1"};
  asked.lengths = {256, 1024};
  asked.sessions = 1;
  const RunResult result = run(asked);
  EXPECT_NE(notes_.find("left out vt at 256 tokens: "), std::string::npos) << notes_;
  EXPECT_EQ(result.outcomes.size(), 3u);
  asked.tasks = {"vt"};
  asked.lengths = {256};
  asked.out = folder_ / "nothing";
  try {
    run(asked);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted) << error.what();
  }
}

TEST_F(Suites, ABrokenFileIsNotGoneOnWith) {
  RunOptions asked = options("needle");
  asked.lengths = {512};
  asked.depths = 1;
  asked.sessions = 1;
  run(asked);
  std::ofstream(asked.out / kOutcomesFile, std::ios::app) << "{}\n";
  asked.resume = true;
  try {
    run(asked);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
  }
}

TEST_F(Suites, PerplexityIsTheScorers) {
  const auto text = folder_ / "book.txt";
  std::ofstream(text) << tasks::Haystack::made_up().beginning(6000);
  RunOptions asked = options(kPerplexity);
  asked.documents = text;
  asked.lengths = {256, 300};
  asked.sessions = 3;
  asked.prefill = {{"a_shape", {{"init", "16"}, {"local", "4096"}}},
                   {"a_shape", {{"init", "16"}, {"local", "n/8"}}}};
  asked.loading = {Loading::kRecompute};
  const RunHooks with = hooks();
  const RunSetup setup = prepare(asked, with);
  const auto engine = Engine::load(setup.engine);
  const std::vector<PerplexityCell> cells = run_perplexity(setup, *engine, with);
  EXPECT_NE(notes_.find("left out recompute: perplexity is of --prefill methods alone"),
            std::string::npos)
      << notes_;
  ASSERT_EQ(cells.size(), 6u);
  for (size_t i = 0; i < cells.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(cells[i].length, i < 3 ? 256 : 300);
    EXPECT_EQ(cells[i].windows, 3);
    EXPECT_EQ(cells[i].predictions, 3 * (cells[i].length - 1));
    EXPECT_NEAR(cells[i].perplexity, std::exp(cells[i].nats_per_token), 1e-9);
    EXPECT_EQ(cells[i].difference.has_value(), i % 3 != 0);
  }
  // The first three windows are the text's beginning, the begin token in front of each.
  std::vector<TokenId> tokens = engine->tokenize(tasks::Haystack::made_up().beginning(6000));
  tokens.resize(1 + 3 * 255);
  Engine::ScoreOptions whole;
  whole.context = 256;
  const Score score = engine->score(tokens, whole);
  EXPECT_NEAR(cells[0].nats_per_token, score.nll_sum / static_cast<double>(score.tokens), 1e-6);
  EXPECT_NEAR(*cells[1].difference, 0, 1e-3) << "a window that covers everything";
  EXPECT_LT(*cells[1].kl_per_token, 1e-3);
  EXPECT_GT(*cells[2].kl_per_token, 10 * *cells[1].kl_per_token) << "one that does not";
  EXPECT_LE(cells[2].difference_interval.low, *cells[2].difference);
  EXPECT_GE(cells[2].difference_interval.high, *cells[2].difference);

  const auto json = nlohmann::json::parse(perplexity_json(cells));
  EXPECT_EQ(json["cells"].size(), 6u);
  EXPECT_EQ(json["cells"][1]["prefill"], "a_shape:init=16,local=4096");
  EXPECT_NE(perplexity_table(cells, 120).find("a_shape:init=16,local=n/8"), std::string::npos);
  asked.lengths = {8192};
  RunSetup longer = prepare(asked, with);
  const auto other = Engine::load(longer.engine);
  EXPECT_THROW(run_perplexity(longer, *other, with), Error) << "the text has no such window";
}

}  // namespace
}  // namespace kvasir::eval

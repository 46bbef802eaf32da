// Runs over a tiny random model that speaks the ids of the tiny tasks.

#include "eval/runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "base/file.h"
#include "engine/tiny_model.h"
#include "eval/outcome_file.h"
#include "eval/summary.h"
#include "tasks/tiny.h"

namespace kvasir::eval {
namespace {

class Runs : public testing::Test {
 protected:
  Runs() : model_(2, 1024, tasks::tiny::kVocabulary) {
    folder_ = model_.folder() / "runs";
    std::filesystem::create_directories(folder_);
  }

  RunOptions options(const std::string& out) const {
    RunOptions options{.suite = "tiny",
                       .engine = {.model = model_.folder(),
                                  .device = "cpu",
                                  .dtype = "f32",
                                  .threads = 2,
                                  .max_sequences = 5,
                                  .deterministic = true},
                       .tasks = {"kv", "hop"},
                       .lengths = {256},
                       .modes = {Mode::kMultiTurn, Mode::kMultiRequest},
                       .sessions = 2,
                       .turns = 3,
                       .prefill = {{"tri_shape", {{"init", "64"}, {"local", "64"}}}},
                       .out = folder_ / out};
    return options;
  }

  RunHooks hooks(std::function<bool()> cancelled = {}) {
    return {.note = [this](const std::string& text) { notes_.push_back(text); },
            .cancelled = std::move(cancelled),
            .progress = {}};
  }

  RunResult run(const RunOptions& options, std::function<bool()> cancelled = {}) {
    const RunHooks with = hooks(std::move(cancelled));
    RunSetup setup = prepare(options, with);
    const std::unique_ptr<Engine> engine = Engine::load(setup.engine);
    return eval::run(setup, *engine, with);
  }

  std::string refusal(const RunOptions& options) {
    try {
      run(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  // Lines without what differs from run to run.
  static std::vector<std::string> lines(std::vector<Outcome> outcomes) {
    std::vector<std::string> all;
    for (Outcome& outcome : outcomes) {
      outcome.ttft_seconds = outcome.decode_seconds = 0;
      if (outcome.mode == Mode::kMultiRequest) outcome.cached_tokens = 0;
      outcome.computed_fraction = 0;
      all.push_back(to_json_line(outcome));
    }
    std::ranges::sort(all);
    return all;
  }

  // Cancels when so many lines are there.
  std::function<bool()> after_lines(const RunOptions& options, int64_t count) const {
    return [file = options.out / kOutcomesFile, count] {
      const auto text = read_file(file);
      return text.ok() && std::ranges::count(text.value(), '\n') >= count;
    };
  }

  engine::TinyModel model_;
  std::filesystem::path folder_;
  std::vector<std::string> notes_;
};

TEST_F(Runs, EveryQuestionIsAskedUnderEveryRow) {
  const RunOptions asked = options("all");
  const RunResult result = run(asked);
  EXPECT_TRUE(result.is_finished);
  EXPECT_EQ(result.folder, asked.out);
  EXPECT_EQ(result.outcomes.size(), 2u * 2 * 2 * 2 * 3);
  const auto file = read_outcomes(result.folder);
  ASSERT_TRUE(file.ok()) << file.error().what();
  EXPECT_TRUE(lines(file.value().outcomes) == lines(result.outcomes));
  for (const Outcome& outcome : result.outcomes) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.length, 256);
    EXPECT_FALSE(outcome.reference.empty());
    EXPECT_GT(outcome.completion_tokens, 0);
    EXPECT_GT(outcome.ttft_seconds, 0);
    EXPECT_GT(outcome.kv_bytes, 0);
    EXPECT_GT(outcome.prompt_tokens, 150);
    if (outcome.turn == 0)
      EXPECT_EQ(outcome.cached_tokens, 0) << "the first question pays for the context";
    else
      EXPECT_GT(outcome.cached_tokens, 150) << "its KV is there";
  }
  const Summary summary = summarize(result.outcomes);
  ASSERT_EQ(summary.rows.size(), 2u);
  EXPECT_EQ(row_name(summary.rows[1]), "tri_shape:init=64,local=64");
}

// One conversation by hand.
TEST_F(Runs, AnswersAreThoseOfTheModelBehindTheReferences) {
  RunOptions asked = options("by-hand");
  asked.tasks = {"kv"};
  asked.prefill = {{"dense", {}}};
  const RunResult result = run(asked);
  const auto engine = Engine::load(asked.engine);
  tasks::TinyOptions sizes = tasks::tiny_options("kv", 256, 3);
  const tasks::TinySession session = tasks::make_tiny("kv", sizes, asked.seed, 1).value();
  const auto answer_to = [&](std::vector<TokenId> prompt) {
    Answer answer = engine->submit({.prompt = std::move(prompt),
                                    .max_tokens = 32,
                                    .stop_tokens = {tasks::tiny::kEot},
                                    .kv_group = 7});
    tasks::TinyIds ids;
    for (Event event; answer.next(event);)
      if (event.kind == Event::Kind::kToken) ids.push_back(static_cast<uint16_t>(event.token));
    const auto end = std::ranges::find(ids, uint16_t{tasks::tiny::kEot});
    return tasks::tiny_words({ids.begin(), end});
  };
  const auto append = [](std::vector<TokenId>& to, const tasks::TinyIds& ids) {
    to.insert(to.end(), ids.begin(), ids.end());
  };
  std::vector<TokenId> conversation;
  append(conversation, session.context);
  for (size_t turn = 0; turn < session.turns.size(); ++turn) {
    std::vector<TokenId> alone;
    append(alone, session.context);
    append(alone, session.turns[turn].query);
    append(conversation, session.turns[turn].query);
    const std::string in_turn = answer_to(conversation), by_itself = answer_to(alone);
    append(conversation, session.turns[turn].answer);
    int found = 0;
    for (const Outcome& outcome : result.outcomes) {
      if (outcome.session != 1 || outcome.turn != static_cast<int64_t>(turn)) continue;
      EXPECT_EQ(outcome.answer, outcome.mode == Mode::kMultiTurn ? in_turn : by_itself);
      ++found;
    }
    EXPECT_EQ(found, 2);
  }
}

TEST_F(Runs, ResumedEqualsUninterrupted) {
  const std::vector<std::string> whole = lines(run(options("whole")).outcomes);
  // Of 48: the last cut leaves more than what is on its way when a run is interrupted.
  for (const int64_t lines_before : {1, 7, 20, 33}) {
    SCOPED_TRACE(lines_before);
    RunOptions asked = options("cut-" + std::to_string(lines_before));
    const RunResult cut = run(asked, after_lines(asked, lines_before));
    EXPECT_FALSE(cut.is_finished);
    EXPECT_LT(cut.outcomes.size(), whole.size());
    EXPECT_GE(std::ssize(cut.outcomes), lines_before);
    // A run that was killed while it wrote.
    std::ofstream(asked.out / kOutcomesFile, std::ios::app) << R"({"suite":"tiny","ta)";
    asked.resume = true;
    const RunResult resumed = run(asked);
    EXPECT_TRUE(resumed.is_finished);
    EXPECT_TRUE(lines(resumed.outcomes) == whole);
    EXPECT_TRUE(lines(read_outcomes(asked.out).value().outcomes) == whole);
    const RunResult again = run(asked);
    EXPECT_EQ(again.outcomes.size(), whole.size()) << "nothing is asked again";
  }
}

TEST_F(Runs, GeneratedAnswersStandInTheConversation) {
  RunOptions asked = options("generated");
  asked.modes = {Mode::kMultiTurn};
  asked.answers = Answers::kGenerated;
  const RunResult whole = run(asked);
  RunOptions golden = options("golden");
  golden.modes = asked.modes;
  EXPECT_FALSE(lines(run(golden).outcomes) == lines(whole.outcomes));
  RunOptions cut = asked;
  cut.out = folder_ / "generated-cut";
  EXPECT_FALSE(run(cut, after_lines(cut, 9)).is_finished);
  cut.resume = true;
  EXPECT_TRUE(lines(run(cut).outcomes) == lines(whole.outcomes));
}

TEST_F(Runs, RecomputeAnswersTheSameWithoutWhatIsThere) {
  RunOptions asked = options("loading");
  asked.prefill = {};
  asked.loading = {Loading::kRecompute};
  const RunResult result = run(asked);
  std::map<std::string, std::string> answers;
  for (const Outcome& outcome : result.outcomes) {
    if (outcome.loading == "recompute") {
      EXPECT_EQ(outcome.cached_tokens, 0);
    }
    const auto [known, is_new] = answers.emplace(question_id(outcome), outcome.answer);
    EXPECT_EQ(known->second, outcome.answer);
  }
  EXPECT_EQ(answers.size() * 2, result.outcomes.size());
}

TEST_F(Runs, FailuresAreRecordedAndTheOthersGoOn) {
  RunOptions asked = options("failures");
  asked.lengths = {128, 512};
  asked.engine.context = 300;  // the longer ones do not fit
  const RunResult result = run(asked);
  EXPECT_TRUE(result.is_finished);
  int64_t failed = 0;
  for (const Outcome& outcome : result.outcomes) {
    EXPECT_EQ(outcome.error.empty(), outcome.length == 128);
    if (outcome.error.empty()) continue;
    ++failed;
    EXPECT_NE(outcome.error.find("KV pool"), std::string::npos) << outcome.error;
    EXPECT_EQ(outcome.score, 0);
    EXPECT_FALSE(outcome.reference.empty());
  }
  EXPECT_EQ(failed, std::ssize(result.outcomes) / 2);
}

TEST_F(Runs, Refusals) {
  RunOptions asked = options("refusals");
  run(asked);
  EXPECT_NE(refusal(asked).find("--resume goes on with it"), std::string::npos);
  asked.resume = true;
  asked.seed = 5;
  EXPECT_NE(refusal(asked).find("started with seed 0, found 5"), std::string::npos);
  asked.seed = 0;
  asked.lengths = {2048};
  EXPECT_EQ(refusal(asked), "--lengths: expected at most the model's 1024 positions, found 2048");
  asked.lengths = {256};
  asked.tasks = {"vk"};
  EXPECT_NE(refusal(asked).find("no such task of tiny"), std::string::npos);
  asked = options("text");
  asked.suite = "tasks";
  asked.tasks = {"icl"};
  EXPECT_NE(refusal(asked).find("tokenizer.json"), std::string::npos) << "text needs a tokenizer";
  asked = options("nothing");
  asked.suite = "scbench";
  asked.tasks = {};
  asked.data_folder = folder_;
  EXPECT_NE(refusal(asked).find("expected files of published sessions"), std::string::npos);
}

TEST_F(Runs, RowsThatTheModelRefusesAreNamedBeforeTheRun) {
  RunOptions asked = options("rows");
  asked.prefill.push_back({"minference", {{"config", "/no/such/file.json"}}});
  const RunResult result = run(asked);
  EXPECT_TRUE(result.is_finished);
  EXPECT_EQ(summarize(result.outcomes).rows.size(), 2u);
  ASSERT_GE(notes_.size(), 2u);
  EXPECT_TRUE(notes_[0].starts_with("left out minference:config=/no/such/file.json: "))
      << notes_[0];
}

TEST_F(Runs, AFolderOfItsOwnWhereNoneIsNamed) {
  RunOptions asked = options("");
  asked.out.clear();
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  const RunResult result = run(asked);
  std::filesystem::current_path(before);
  EXPECT_TRUE(result.folder.string().starts_with("bench-results/tiny-2")) << result.folder;
  EXPECT_TRUE(std::filesystem::exists(folder_ / result.folder / kOutcomesFile));
  EXPECT_TRUE(std::filesystem::exists(folder_ / result.folder / "run.json"));
}

}  // namespace
}  // namespace kvasir::eval

// Prompts for a model with a tokenizer and a chat template, and a run over it.

#include "eval/prompts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "eval/runner.h"
#include "eval/summary.h"

namespace kvasir::eval {
namespace {

const std::filesystem::path kModel =
    std::filesystem::path(KVASIR_SOURCE_DIR) / "models/bootstrap-16m";

Engine& engine() {
  static const std::unique_ptr<Engine> loaded =
      Engine::load({.model = kModel, .device = "cpu", .threads = 1, .context = 2048});
  return *loaded;
}

tasks::Sample sample(int turns, const std::string& task = "kv") {
  tasks::Sample sample;
  sample.task = task;
  for (int i = 0; i < 40; ++i) sample.context += "\"key" + std::to_string(i) + "\": \"value\",\n";
  for (int i = 0; i < turns; ++i)
    sample.turns.push_back({.question = "What is the value of \"key" + std::to_string(i) + "\"?",
                            .answers = {"answer " + std::to_string(i)}});
  return sample;
}

std::vector<TokenId> chat(const std::vector<ChatMessage>& messages) {
  return engine().tokenize_chat(messages, true);
}

bool begins_with(const std::vector<TokenId>& prompt, const std::vector<TokenId>& beginning) {
  return beginning.size() <= prompt.size() &&
         std::equal(beginning.begin(), beginning.end(), prompt.begin());
}

TEST(Prompts, ConversationsAreThoseOfTheTemplate) {
  const tasks::Sample three = sample(3);
  const auto prompts = make_prompts(three, "tasks", Mode::kMultiTurn, 48, {.engine = &engine()});
  std::vector<ChatMessage> messages{{"system", three.context}, {"user", three.turns[0].question}};
  EXPECT_EQ(prompts->after({}), chat(messages));
  const std::vector<std::string> answers{"one", "two words"};
  for (size_t turn = 1; turn < 3; ++turn) {
    messages.push_back({"assistant", answers[turn - 1]});
    messages.push_back({"user", three.turns[turn].question});
    const auto prompt = prompts->after(std::span(answers).first(turn));
    EXPECT_EQ(engine().detokenize(prompt, false), engine().detokenize(chat(messages), false));
    EXPECT_TRUE(begins_with(prompt, prompts->after(std::span(answers).first(turn - 1))));
  }
}

TEST(Prompts, TheContextHoldsNothingOfAnyQuestion) {
  for (const int turns : {1, 4}) {
    const tasks::Sample some = sample(turns);
    const auto prompts =
        make_prompts(some, "tasks", Mode::kMultiRequest, 16 * turns, {.engine = &engine()});
    const std::string context = engine().detokenize(prompts->context(), false);
    EXPECT_NE(context.find("\"key39\": \"value\""), std::string::npos) << "all of the document";
    EXPECT_EQ(context.find("What"), std::string::npos);
    for (int turn = 0; turn < turns; ++turn) {
      const auto& prompt = prompts->alone(static_cast<size_t>(turn));
      EXPECT_TRUE(begins_with(prompt, prompts->context()));
      EXPECT_EQ(prompt, chat({{"system", some.context},
                              {"user", some.turns[static_cast<size_t>(turn)].question}}));
    }
  }
}

TEST(Prompts, ScbenchStandsInTheUsersWords) {
  const tasks::Sample two = sample(2, "scbench_kv");
  const auto prompts =
      make_prompts(two, "scbench", Mode::kMultiRequest, 300, {.engine = &engine()});
  const std::string text = engine().detokenize(prompts->alone(1), false);
  EXPECT_NE(text.find("<|user|>Find the values of keys"), std::string::npos) << text;
  EXPECT_NE(text.find("\n\nWhat is the value of \"key1\"?<|assistant|>"), std::string::npos);
}

TEST(Prompts, WhatIsTooLongLosesItsMiddle) {
  const tasks::Sample two = sample(2, "scbench_kv");
  const auto whole =
      make_prompts(two, "scbench", Mode::kMultiTurn, 100, {.engine = &engine()})->after({});
  const int64_t limit = std::ssize(whole) - 50;
  const auto cut =
      make_prompts(two, "scbench", Mode::kMultiTurn, 100, {.engine = &engine(), .limit = limit});
  const auto opening = cut->after({});
  const int64_t half = (limit - 100) / 2;
  ASSERT_EQ(std::ssize(opening), 2 * half);
  EXPECT_TRUE(std::equal(opening.begin(), opening.begin() + half, whole.begin()));
  EXPECT_TRUE(std::equal(opening.end() - half, opening.end(), whole.end() - half));
  EXPECT_TRUE(begins_with(cut->after(std::vector<std::string>{"x"}), opening));

  const PromptMaking making{.engine = &engine(), .limit = 1300};
  const auto alone = make_prompts(two, "scbench", Mode::kMultiRequest, 100, making);
  EXPECT_EQ(alone->context().size(), 200u) << "1,000 are kept for a question, 100 for answers";
  EXPECT_TRUE(begins_with(alone->alone(1), alone->context()));
}

TEST(Prompts, OwnTemplates) {
  const auto file = std::filesystem::temp_directory_path() /
                    ("kvasir-templates-" + std::to_string(::getpid()) + ".json");
  const auto load = [&](const std::string& text) {
    std::ofstream(file) << text;
    return load_templates(file);
  };
  const auto found =
      load(R"({"scbench_kv": {"first": "F {context}|{input}{", "follow": "L {question}",
    "context_only": "C {context}", "query_only": "Q {input} {A}{other}"}})");
  ASSERT_TRUE(found.ok()) << found.error().what();
  const tasks::Sample two = sample(2, "scbench_kv");
  const PromptMaking making{.engine = &engine(), .templates = &found.value()};
  const auto text = [&](Mode mode) {
    const auto prompts = make_prompts(two, "scbench", mode, 100, making);
    return engine().detokenize(mode == Mode::kMultiTurn
                                   ? prompts->after(std::vector<std::string>{"yes"})
                                   : prompts->alone(1),
                               false);
  };
  const std::string& first = two.turns[0].question;
  const std::string& second = two.turns[1].question;
  EXPECT_EQ(text(Mode::kMultiTurn), "<|begin|><|user|>F " + two.context + "|" + first +
                                        "{<|assistant|>yes<|end|><|user|>L " + second +
                                        "<|assistant|>");
  EXPECT_EQ(text(Mode::kMultiRequest),
            "<|begin|><|user|>C " + two.context + "Q " + second + " {other}<|assistant|>");
  EXPECT_EQ(load("{").error().code(), ErrorCode::kMalformed);
  EXPECT_EQ(load(R"({"scbench_kv": {"first": 1}})").error().message(),
            "scbench_kv: expected the text \"first\"");
  std::filesystem::remove(file);
  EXPECT_EQ(load_templates(file).error().code(), ErrorCode::kNotFound);
}

// The shipped model knows this task.
TEST(Prompts, TheShippedModelAnswersInBothModes) {
  const RunHooks hooks{.note = [](const std::string&) {}, .cancelled = {}, .progress = {}};
  RunSetup setup = prepare({.suite = "tasks",
                            .engine = {.model = kModel, .device = "cpu", .threads = 1},
                            .tasks = {"kv"},
                            .lengths = {512},
                            .modes = {Mode::kMultiTurn, Mode::kMultiRequest},
                            .sessions = 3,
                            .turns = 3,
                            .prefill = {{"dense", {}}},
                            .out = std::filesystem::temp_directory_path() /
                                   ("kvasir-prompts-" + std::to_string(::getpid()))},
                           hooks);
  const auto loaded = Engine::load(setup.engine);
  const RunResult result = run(setup, *loaded, hooks);
  std::filesystem::remove_all(result.folder);
  const Summary summary = summarize(result.outcomes);
  for (const Mode mode : {Mode::kMultiTurn, Mode::kMultiRequest}) {
    const SummaryCell* cell =
        summary.find(0, {.suite = "tasks", .task = "kv", .length = 512, .mode = mode});
    ASSERT_TRUE(cell);
    EXPECT_GE(cell->accuracy, 0.9) << mode_name(mode);
    EXPECT_GE(cell->published, 0.9);
  }
}

}  // namespace
}  // namespace kvasir::eval

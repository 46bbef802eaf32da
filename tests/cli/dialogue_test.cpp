// The dialogue on a terminal, with the fake engine in this process.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "cli/fake_engine.h"
#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

Outcome talk(const std::string& input, Words arguments = {}, Setting setting = {},
             const std::string& model = "fake") {
  arguments.insert(arguments.begin(), {"run", "--model", model});
  setting.input = input;
  setting.in_terminal = setting.err_terminal = true;
  return run(arguments, setting);
}

std::string book() { return temporary_file("book.txt", "It was a dark night.\n"); }

TEST(Dialogue, ReadsOnceAndAnswersUntilTheEndOfInput) {
  const Outcome outcome = talk("Who?\nWhy?\n", {"-d", book()});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "29 tokens about Who?\n55 tokens about Why?\n") << "one conversation";
  EXPECT_NE(outcome.err.find("read 24 tokens in 0.5 s\n"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("Ask; Ctrl-C stops an answer, Ctrl-D or /quit ends.\n> "),
            std::string::npos);
  EXPECT_NE(outcome.err.find("[prompt 29 (24 cached), answer 20, first token after 0.62 s, "
                             "400.0/s]\n"),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("\n #  prompt"), std::string::npos) << "the closing table";
  EXPECT_EQ(fake::log().loads, 1);
}

TEST(Dialogue, EndsAtQuitAndSkipsEmptyLines) {
  const Outcome outcome = talk("\n   \nWho?\r\n/quit\nnever asked\n");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "7 tokens about Who?\n");
}

TEST(Dialogue, TakesALastLineWithoutItsEnd) {
  EXPECT_EQ(talk("Who?").out, "7 tokens about Who?\n");
}

TEST(Dialogue, InterruptStopsTheAnswerAndNotTheProgram) {
  Setting setting;
  int interrupts_sent = 0;
  setting.on_out = [&](const std::string& out, Interrupts& interrupts) {
    if (out == "7 tok") {
      interrupts.notify(SIGINT);
      ++interrupts_sent;
    }
  };
  const Outcome outcome = talk("Who?\nWhy?\n", {}, setting);
  EXPECT_EQ(interrupts_sent, 1);
  EXPECT_EQ(outcome.code, 0) << "the program went on and ended as it should";
  EXPECT_EQ(outcome.out, "7 tok\n18 tokens about Why?\n") << "the part stays in the conversation";
  EXPECT_NE(outcome.err.find("[stopped; prompt 7"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("kvasir: interrupted"), std::string::npos);
  EXPECT_EQ(fake::log().cancels, 1);
}

TEST(Dialogue, InterruptWhileReadingGoesToTheQuestions) {
  const std::string long_book = temporary_file("long.txt", std::string(2000, 'x'));
  Setting setting;
  bool sent = false;
  setting.on_err = [&](const std::string& err, Interrupts& interrupts) {
    if (sent || err.find("reading") == std::string::npos) return;
    sent = true;
    interrupts.notify(SIGINT);
  };
  const Outcome outcome = talk("Who?\n", {"-d", long_book}, setting);
  EXPECT_TRUE(sent);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("note: stopped reading"), std::string::npos);
  EXPECT_EQ(outcome.out, "2008 tokens about Who?\n");
}

TEST(Dialogue, TerminationEndsIt) {
  Setting setting;
  setting.on_out = [&](const std::string& out, Interrupts& interrupts) {
    if (out == "7 tok") interrupts.notify(SIGTERM);
  };
  const Outcome outcome = talk("Who?\nWhy?\n", {}, setting);
  EXPECT_EQ(outcome.code, 128 + SIGTERM);
  EXPECT_EQ(outcome.out, "7 tok\n");
  EXPECT_TRUE(outcome.err.ends_with("kvasir: interrupted\n")) << outcome.err;
}

TEST(Dialogue, TerminationAtThePromptEndsIt) {
  Setting setting;
  setting.on_err = [&](const std::string& err, Interrupts& interrupts) {
    if (err.ends_with("> ")) interrupts.notify(SIGTERM);
  };
  const Outcome outcome = talk("", {"-d", book()}, setting);
  EXPECT_EQ(outcome.code, 128 + SIGTERM);
}

TEST(Dialogue, ErrorsOfOneQuestionDoNotEndIt) {
  const Outcome outcome =
      talk("boom\nfine\n", {}, {}, "fake,answer_error=unsupported,bad_question=boom");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.err.find("kvasir: error: fake: expected luck, found unsupported\n> "),
            std::string::npos)
      << outcome.err;
  EXPECT_TRUE(outcome.out.ends_with("7 tokens about fine\n")) << "the failed turn is forgotten";
  const Outcome too_long =
      talk(std::string(200, 'x') + "\nshort\n", {"-n", "20"}, {}, "fake,context=100");
  EXPECT_EQ(too_long.code, 0);
  EXPECT_NE(too_long.err.find("too many"), std::string::npos);
  EXPECT_EQ(too_long.out, "8 tokens about short\n");
}

TEST(Dialogue, RefusesLinesThatAreNotUtf8) {
  const Outcome outcome = talk("caf\xe9\nWho?\n");
  EXPECT_NE(outcome.err.find("note: not UTF-8 at byte 3"), std::string::npos);
  EXPECT_EQ(outcome.out, "7 tokens about Who?\n");
}

TEST(Dialogue, PrintsJsonWhereAskedFor) {
  const Outcome outcome = talk("Who?\n", {"--json", "-n", "3"});
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["text"], "7 t");
}

TEST(Dialogue, AGoneTerminalEndsIt) {
  Setting setting;
  setting.fail_out_after = 3;
  const Outcome outcome = talk("Who?\nWhy?\n", {}, setting);
  EXPECT_EQ(outcome.code, 7);
  EXPECT_EQ(fake::log().running, 0);
}

}  // namespace
}  // namespace kvasir::cli

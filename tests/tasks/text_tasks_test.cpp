#include "tasks/text_tasks.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 of its own std::regex, sanitised
#endif

#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "tasks/haystack.h"
#include "tasks/keys.h"
#include "tasks/score_text.h"

namespace kvasir::tasks {
namespace {

// About four letters a token, digits each their own: needs no tokenizer and is as uneven.
int64_t rough_count(std::string_view text) {
  int64_t letters = 0, digits = 0;
  for (const char letter : text) ++(is_digit(letter) ? digits : letters);
  return digits + (letters + 3) / 4;
}

const Haystack& haystack() {
  static const Haystack made = Haystack::made_up();
  return made;
}

GeneratorOptions options(int64_t tokens, int turns) {
  return {.target_tokens = tokens, .count = rough_count, .turns = turns, .haystack = &haystack()};
}

Sample make(std::string_view task, const GeneratorOptions& options, uint64_t index) {
  return make_text_task(task, options).value()->sample(1, index).value();
}

std::string quoted_key(const std::string& question, const char* pattern, int group = 1) {
  std::smatch match;
  EXPECT_TRUE(std::regex_search(question, match, std::regex(pattern))) << question;
  return match[static_cast<size_t>(group)];
}

std::string found(const std::string& text, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? match[1].str() : "";
}

// Reads the answer off the context, as a reader would who knows the form of the task.
std::string solve(std::string_view task, const std::string& context, const std::string& question) {
  if (task == "needle")
    return found(context,
                 " secret number of " + quoted_key(question, "of (\\w+)\\?") + " is (\\d{6})\\.");
  if (task == "kv")
    return found(context, "\"" + quoted_key(question, "\"(\\w+)\"") + "\": \"([0-9a-f]{6})\",\n");
  if (task == "icl") return found(context, "(?:^|\n)" + question + "([A-Z])\n");
  if (task == "presuf")
    return found(context, "(?:^|\n)(" + quoted_key(question, "with (\\w+) and") +
                              " \\w+ \\w+ \\w+ " + quoted_key(question, "ends with (\\w+)") +
                              ")\n");
  std::string name = quoted_key(question, "VAR (\\w+)");
  for (int hop = 0; hop < 6; ++hop) {
    const std::string value = found(context, "VAR " + name + " = (VAR \\w+|\\d+)\\.");
    if (!value.starts_with("VAR ")) return value;
    name = value.substr(4);
  }
  return "";
}

TEST(TextTasks, AnswersStandInTheContextOnce) {
  for (const std::string_view task : kTextTasks)
    for (const KeySpace space : {KeySpace::kTraining, KeySpace::kEvaluation})
      for (uint64_t index = 0; index < 10; ++index) {
        SCOPED_TRACE(std::string(task) + " " + std::to_string(index));
        GeneratorOptions wanted = options(3000, 4);
        wanted.key_space = space;
        const Sample sample = make(task, wanted, index);
        ASSERT_EQ(sample.turns.size(), 4u);
        std::set<std::string> questions;
        for (const Turn& turn : sample.turns) {
          EXPECT_EQ(solve(task, sample.context, turn.question), turn.golden()) << turn.question;
          EXPECT_TRUE(questions.insert(turn.question).second) << "asked twice";
        }
      }
}

TEST(TextTasks, LengthsAreKept) {
  for (const std::string_view task : kTextTasks)
    for (const int64_t tokens : {600, 1000, 2048, 4096, 20000, 65536})
      for (const int turns : {1, 5}) {
        SCOPED_TRACE(std::string(task) + " " + std::to_string(tokens) + " " +
                     std::to_string(turns));
        const GeneratorOptions wanted = options(tokens, turns);
        const int64_t counted = count_tokens(make(task, wanted, 3), wanted);
        EXPECT_LE(counted, tokens);
        const int64_t entry = task == "needle" || task == "var" ? 0 : 20;
        EXPECT_GE(counted, tokens - std::max(tokens / 50, entry));
      }
}

TEST(TextTasks, NoRoomIsAnError) {
  for (const std::string_view task : kTextTasks) {
    const auto sample = make_text_task(task, options(20, 5)).value()->sample(0, 0);
    ASSERT_FALSE(sample.ok());
    EXPECT_EQ(sample.error().code(), ErrorCode::kResourceExhausted);
  }
}

TEST(TextTasks, SamplesArePureAndDiffer) {
  for (const std::string_view task : kTextTasks) {
    const Sample first = make(task, options(1500, 2), 0), again = make(task, options(1500, 2), 0);
    EXPECT_EQ(first.context, again.context);
    EXPECT_EQ(first.turns[1].question, again.turns[1].question);
    EXPECT_NE(first.context, make(task, options(1500, 2), 1).context);
  }
}

std::set<std::string> keys(std::string_view task, KeySpace space) {
  std::set<std::string> all;
  GeneratorOptions wanted = options(4000, 8);
  wanted.key_space = space;
  for (uint64_t index = 0; index < 20; ++index)
    for (const Turn& turn : make(task, wanted, index).turns) {
      std::smatch match;
      const std::regex pattern(task == "kv"       ? "\"(\\w+)\""
                               : task == "icl"    ? "(\\w+):"
                               : task == "needle" ? "of (\\w+)\\?"
                               : task == "var"    ? "VAR (\\w+)"
                                                  : "with (\\w+) and");
      EXPECT_TRUE(std::regex_search(turn.question, match, pattern));
      all.insert(match[1]);
    }
  return all;
}

TEST(TextTasks, TrainingAndEvaluationShareNoKey) {
  for (const std::string_view task : kTextTasks) {
    const auto training = keys(task, KeySpace::kTraining),
               other = keys(task, KeySpace::kEvaluation);
    EXPECT_GT(training.size(), 40u);
    for (const auto& key : training) EXPECT_FALSE(other.contains(key)) << key;
    for (const auto& key : other) EXPECT_EQ(key_space(key), KeySpace::kEvaluation) << key;
  }
}

TEST(TextTasks, PhrasingsAreForEvaluationAndQuestionsMayStandInside) {
  for (const std::string_view task : kTextTasks) {
    std::set<std::string> questions;
    for (int phrasing = 0; phrasing < kPhrasings; ++phrasing) {
      GeneratorOptions wanted = options(2000, 1);
      wanted.phrasing = phrasing;
      const std::string question = make(task, wanted, 0).turns[0].question;
      EXPECT_EQ(question.find("{}"), std::string::npos);
      EXPECT_TRUE(questions.insert(question).second) << question;
    }
    GeneratorOptions wanted = options(2000, 3);
    wanted.question_inside = true;
    const Sample sample = make(task, wanted, 0);
    for (const Turn& turn : sample.turns)
      EXPECT_NE(sample.context.find("\n" + turn.question + "\n"), std::string::npos);
    wanted.key_space = KeySpace::kTraining;
    wanted.phrasing = 1;
    EXPECT_EQ(make_text_task(task, wanted).error().code(), ErrorCode::kInvalidArgument);
  }
}

TEST(TextTasks, DepthsAreSpreadAndHopsAsAskedFor) {
  int deep = 0;
  std::set<double> hops;
  for (uint64_t index = 0; index < 200; ++index) {
    deep += make("needle", options(800, 1), index).facts.at("depth.0") > 0.5;
    hops.insert(make("var", options(800, 1), index).facts.at("hops.0"));
  }
  EXPECT_GT(deep, 70);
  EXPECT_LT(deep, 130);
  EXPECT_EQ(hops, (std::set<double>{1, 2, 3, 4}));
  GeneratorOptions wanted = options(3000, 1);
  wanted.depth = 0.5;
  EXPECT_NEAR(make("needle", wanted, 0).facts.at("depth.0"), 0.5, 0.03);
  EXPECT_NEAR(make("kv", wanted, 0).facts.at("depth.0"), 0.5, 0.03);
  wanted.hops = 3;
  EXPECT_EQ(make("var", wanted, 0).facts.at("hops.0"), 3);
}

TEST(TextTasks, NeedleStandsBehindASentence) {
  const Sample sample = make("needle", options(3000, 1), 5);
  const size_t at = sample.context.find(" The secret number");
  ASSERT_NE(at, std::string::npos);
  EXPECT_TRUE(at == 0 || sample.context[at - 1] == '.');
}

TEST(TextTasks, WithoutAHaystackOneClearMessage) {
  GeneratorOptions wanted = options(1000, 1);
  wanted.haystack = nullptr;
  EXPECT_NE(make_text_task("needle", wanted).error().message().find("haystack"), std::string::npos);
  EXPECT_EQ(make_text_task("nosuch", wanted).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace kvasir::tasks

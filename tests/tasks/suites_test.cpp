// Every suite's samples: their lengths, and answers that a reader of the context finds.

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // g++ 12 of its own std::regex, sanitised
#endif

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "tasks/haystack.h"
#include "tasks/perplexity.h"
#include "tasks/registry.h"
#include "tasks/ruler.h"
#include "tasks/scbench.h"
#include "tasks/score.h"
#include "tasks/session_file.h"
#include "tasks/tiny.h"

namespace kvasir::tasks {
namespace {

int64_t rough_count(std::string_view text) { return static_cast<int64_t>(text.size() + 3) / 4; }

GeneratorOptions options(int64_t tokens, int turns) {
  static const Haystack made = Haystack::made_up();
  return {.target_tokens = tokens,
          .count = rough_count,
          .turns = turns,
          .haystack = &made,
          .depth = -1};
}

std::string group(const std::string& text, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? match[1].str() : "";
}

std::vector<std::smatch> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return {std::sregex_iterator(text.begin(), text.end(), regex), std::sregex_iterator()};
}

size_t times(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// The variables of a chain, from its value on.
std::vector<std::string> follow(const std::string& context, const std::string& value) {
  std::vector<std::string> names{group(context, "VAR (\\w+) = " + value + "\n")};
  for (;;) {
    const std::string next = group(context, "VAR (\\w+) = VAR " + names.back() + "\n");
    if (next.empty()) return names;
    names.push_back(next);
  }
}

std::vector<std::string> solve_scbench(const Sample& sample, const Turn& turn) {
  const std::string& text = sample.context;
  if (sample.task == "scbench_kv")
    return {group(text, group(turn.question, "\"([^\"]+)\"") + "\": \"([^\"]+)\"")};
  if (sample.task == "scbench_vt") return follow(text + "\n", group(turn.question, "value (\\d+)"));
  if (sample.task == "scbench_prefix_suffix") {
    const std::string first = turn.question.substr(turn.question.find('"') + 1, 4);
    const std::string last = turn.question.substr(turn.question.find("ends with \"") + 11, 4);
    std::vector<std::string> found;
    for (size_t begin = text.find('\n') + 1; begin < text.size();
         begin = text.find('\n', begin) + 1) {
      const std::string line = text.substr(begin, text.find('\n', begin) - begin);
      if (line.starts_with(first) && line.ends_with(last)) found.push_back(line);
    }
    return found;
  }
  if (sample.task == "scbench_many_shot") return turn.answers;  // solved below
  std::vector<int> numbers;
  for (size_t at = 1; at < text.size(); at = std::min(text.find(' ', at), text.size() - 1) + 1)
    numbers.push_back(std::stoi(text.substr(at)));
  std::sort(numbers.begin(), numbers.end());
  const std::string& question = turn.question;
  if (question.find("median") != std::string::npos)
    return {std::to_string(numbers[numbers.size() / 2])};
  const std::set<int> set(numbers.begin(), numbers.end());
  std::vector<int> distinct(set.begin(), set.end());
  if (question.find("largest") != std::string::npos) std::reverse(distinct.begin(), distinct.end());
  const size_t rank = question.find("second") != std::string::npos  ? 1
                      : question.find("third") != std::string::npos ? 2
                                                                    : 0;
  return {std::to_string(distinct[rank])};
}

TEST(Scbench, GeneratedAnswersCanBeRead) {
  for (const ScbenchTask& task : scbench_tasks()) {
    if (!task.is_synthetic) continue;
    for (uint64_t index = 0; index < 5; ++index) {
      SCOPED_TRACE(std::string(task.config) + " " + std::to_string(index));
      const auto made = make_scbench(task.config, options(8000, 5)).value()->sample(2, index);
      ASSERT_TRUE(made.ok()) << made.error().what();
      const Sample& sample = made.value();
      EXPECT_EQ(sample.turns.size(), 5u);
      EXPECT_LE(count_tokens(sample, options(8000, 5)), 8000);
      EXPECT_GE(count_tokens(sample, options(8000, 5)), 7840);
      for (const Turn& turn : sample.turns) {
        EXPECT_EQ(solve_scbench(sample, turn), turn.answers) << turn.question;
        EXPECT_EQ(score(scbench_scorer(sample, turn),
                        {.prediction = turn.golden(), .turn = turn, .scoring = Scoring::kStrict})
                      .value(),
                  1);
      }
    }
  }
}

TEST(Scbench, SwappedObjectsEndWhereTheAnswerSays) {
  const Sample sample =
      make_scbench("scbench_many_shot", options(4000, 8)).value()->sample(0, 0).value();
  for (const Turn& turn : sample.turns) {
    std::map<std::string, std::string> has;
    const std::string& text = turn.question;
    for (const std::smatch& at : matches(text, "(\\w+) has the (\\w+)[,.]")) has[at[1]] = at[2];
    for (const std::smatch& at : matches(text, "(\\w+) and (\\w+) swap"))
      std::swap(has[at[1]], has[at[2]]);
    const std::string thing = has[group(text, "At the end, (\\w+)")];
    EXPECT_NE(text.find("\n" + turn.golden() + " " + thing + "\n"), std::string::npos) << text;
  }
}

TEST(Scbench, PromptsAndTasksOfMixes) {
  Sample sample{.task = "scbench_mf", .context = "[1, 2]"};
  sample.turns.push_back({.question = "The largest number of the list is:", .answers = {"2"}});
  const ScbenchPrompt prompt = scbench_prompt(sample);
  EXPECT_EQ(prompt.before, "What is the largest number of the list?\n\n[1, 2]");
  EXPECT_EQ(prompt.turns[0], "\n\nThe largest number of the list is:");
  Sample mix{.task = "scbench_summary_with_needles"};
  EXPECT_EQ(scbench_scorer(mix, {.task = "scbench_passkey"}), "passkey");
  EXPECT_EQ(scbench_scorer(mix, {.task = "scbench_summary"}), "summary");
  EXPECT_EQ(scbench_new_tokens(mix, {.task = "scbench_passkey"}), 15);
  const auto file_only = make_scbench("scbench_summary", options(1000, 1));
  EXPECT_NE(file_only.error().message().find("scbench_summary.jsonl"), std::string::npos);
}

TEST(Ruler, GeneratedAnswersStandInTheText) {
  for (const RulerTask& task : ruler_tasks()) {
    if (task.needs_file) continue;
    for (const int64_t tokens : {4096, 12000}) {
      SCOPED_TRACE(std::string(task.name) + " " + std::to_string(tokens));
      const auto made = make_ruler(task.name, options(tokens, 1)).value()->sample(3, 1);
      ASSERT_TRUE(made.ok()) << made.error().what();
      const Sample& sample = made.value();
      const int64_t counted = count_tokens(sample, options(tokens, 1));
      EXPECT_LE(counted, tokens);
      EXPECT_GE(counted, tokens - std::max<int64_t>(tokens / 50, task.name == "cwe" ? 150 : 60));
      const Turn& turn = sample.turns.at(0);
      if (task.name.starts_with("niah")) {
        const std::string key = group(turn.question, " for ([\\w-]+)");
        EXPECT_FALSE(key.empty());
        for (const std::string& answer : turn.answers)
          EXPECT_EQ(times(sample.context, " is: " + answer + "."), 1u);
        EXPECT_NE(sample.context.find(" for " + key + " is: " + turn.answers[0] + "."),
                  std::string::npos);
      } else if (task.name == "vt") {
        EXPECT_EQ(follow(sample.context + "\n", group(turn.question, "value (\\d+)")),
                  turn.answers);
      } else {
        std::map<std::string, int> counts;
        const size_t begin = task.name == "cwe" ? sample.context.rfind("\n") : 0;
        const std::string text = sample.context.substr(begin);
        for (const std::smatch& at : matches(text, "[a-z-]{2,}")) ++counts[at.str()];
        std::vector<std::pair<int, std::string>> order;
        for (const auto& [word, count] : counts) order.emplace_back(-count, word);
        std::sort(order.begin(), order.end());
        std::set<std::string> top;
        for (size_t i = 0; i < turn.answers.size(); ++i) top.insert(order[i].second);
        EXPECT_EQ(top, std::set<std::string>(turn.answers.begin(), turn.answers.end()));
        EXPECT_LT(order[turn.answers.size() - 1].first, order[turn.answers.size()].first);
      }
      EXPECT_EQ(score(task.scorer, {.prediction = turn.golden(), .turn = turn}).value(), 1);
    }
  }
}

TEST(Ruler, QuestionsFromFiles) {
  const QaSet squad = parse_squad(R"({"data": [{"paragraphs": [
      {"context": "Ada wrote it.", "qas": [
        {"question": "Who wrote it?", "is_impossible": false, "answers": [{"text": "Ada"}]},
        {"question": "Why?", "is_impossible": true, "answers": []}]},
      {"context": "Nothing else.", "qas": []}]}]})",
                                  "squad")
                          .value();
  ASSERT_EQ(squad.questions.size(), 1u);
  const Sample sample = make_ruler("qa_1", options(1000, 1), &squad).value()->sample(0, 0).value();
  EXPECT_NE(sample.context.find("Ada wrote it."), std::string::npos);
  EXPECT_NE(sample.context.find("Nothing else."), std::string::npos);
  EXPECT_EQ(sample.turns[0].answers[0], "Ada");
  const QaSet hotpot = parse_hotpot(R"([{"question": "Q?", "answer": "A",
      "supporting_facts": [["T", 0]], "context": [["T", ["One. ", "Two."]], ["U", ["Three."]]]}])",
                                    "hotpot")
                           .value();
  EXPECT_EQ(hotpot.documents[0], "T\nOne. Two.");
  EXPECT_EQ(hotpot.questions[0].gold, std::vector<size_t>{0});
  EXPECT_NE(
      std::string(parse_squad("{\"data\": 3}", "squad.json").error().what()).find("squad.json"),
      std::string::npos);
  EXPECT_NE(make_ruler("qa_2", options(1000, 1)).error().message().find("HotpotQA"),
            std::string::npos);
}

TEST(NeedleGrid, DepthsAndLengths) {
  EXPECT_EQ(even_grid(0, 100, 10), (std::vector<int64_t>{0, 11, 22, 33, 44, 56, 67, 78, 89, 100}));
  EXPECT_EQ(even_grid(1000, 1000000, 15)[1], 72357);
  EXPECT_EQ(even_grid(1000, 1000000, 15)[2], 143714);
  for (const double depth : {0.0, 0.33, 1.0}) {
    GeneratorOptions wanted = options(6000, 1);
    wanted.depth = depth;
    const Sample sample = make_generator("needle", "grid", wanted).value()->sample(0, 0).value();
    EXPECT_LE(count_tokens(sample, wanted), 5800);
    EXPECT_GE(count_tokens(sample, wanted), 5684);
    const double at = static_cast<double>(sample.context.find(" The special number of ")) /
                      static_cast<double>(sample.context.size());
    EXPECT_NEAR(at, depth, 0.02);
    EXPECT_EQ(times(sample.context, sample.turns[0].answers[0]), 1u);
  }
}

TEST(Tiny, SessionsFitTheirLength) {
  for (const std::string_view task : kTinyTasks)
    for (const int tokens : {1024, 4096}) {
      SCOPED_TRACE(std::string(task) + " " + std::to_string(tokens));
      const auto session = make_tiny(task, tiny_options(task, tokens, 5), 0, 0);
      ASSERT_TRUE(session.ok()) << session.error().what();
      size_t size = session.value().context.size();
      for (const TinyTurn& turn : session.value().turns)
        size += turn.query.size() + turn.answer.size();
      EXPECT_LE(size, static_cast<size_t>(tokens));
      for (size_t turn = 0; turn < session.value().turns.size(); ++turn) {
        EXPECT_EQ(tiny_score(session.value(), turn, session.value().turns[turn].answer), 1);
        EXPECT_LT(tiny_score(session.value(), turn, {40, 41, 42}), 1);
      }
    }
}

TEST(Registry, NamesAllAndMakesAll) {
  EXPECT_EQ(suites().size(), 5u);
  for (const Suite& suite : suites())
    for (const Task& task : suite.tasks) {
      SCOPED_TRACE(std::string(suite.name) + " " + std::string(task.name));
      EXPECT_TRUE(find_scorer(task.scorer).ok());
      GeneratorOptions wanted = options(4096, suite.name == "tasks" ? 3 : 2);
      if (suite.name == "needle") wanted.depth = 0.5;
      const auto generator = make_generator(suite.name, task.name, wanted);
      EXPECT_EQ(generator.ok(), !task.needs_file);
      if (!generator) continue;
      const auto sample = generator.value()->sample(1, 0);
      ASSERT_TRUE(sample.ok()) << sample.error().what();
      for (const Turn& turn : sample.value().turns)
        EXPECT_EQ(
            score(
                scorer_of(task, sample.value(), turn),
                {.prediction = turn.golden(), .turn = turn, .functions = sample.value().functions})
                .value(),
            1);
    }
  EXPECT_NE(find_task("ruler", "x").error().message().find("niah_single_1"), std::string::npos);
  EXPECT_NE(find_suite("x").error().message().find("scbench"), std::string::npos);
}

TEST(SessionFile, WhatIsWrittenIsRead) {
  const Sample made = make_scbench("scbench_vt", options(2000, 3)).value()->sample(0, 7).value();
  const auto read = parse_sessions(session_line(made) + "\n", "x", "scbench_vt");
  ASSERT_TRUE(read.ok()) << read.error().what();
  EXPECT_EQ(read.value()[0].context, made.context);
  EXPECT_EQ(read.value()[0].id, "7");
  EXPECT_EQ(read.value()[0].turns[1].answers, made.turns[1].answers);
  EXPECT_EQ(read.value()[0].turns[1].golden(), made.turns[1].golden());
}

TEST(SessionFile, ReadsThePublishedForms) {
  const auto find = parse_sessions(
                        "{\"id\": 4, \"context\": [5, 6, 7], \"extra\": {}, \"multi_turns\": "
                        "[{\"input\": \"The largest is\", "
                        "\"answer\": 7}]}\n",
                        "mf", "scbench_mf")
                        .value();
  EXPECT_EQ(find[0].context, "[5, 6, 7]");
  EXPECT_EQ(find[0].id, "4");
  EXPECT_TRUE(find[0].turns[0].is_integer);
  const auto code = parse_sessions(
                        "{\"context\": \"c\", \"lang\": \"go\", \"repo\": \"r\", \"multi_turns\": "
                        "[{\"input\": \"q\", "
                        "\"answer\": \"f1\", \"name\": \"n1\"}]}\n\n"
                        "{\"context\": \"c\", \"lang\": \"go\", \"repo\": \"r\", \"multi_turns\": "
                        "[{\"input\": \"q\", "
                        "\"answer\": \"f2\", \"name\": \"n2\"}]}",
                        "code", "scbench_repoqa")
                        .value();
  ASSERT_EQ(code.size(), 2u);
  EXPECT_EQ(code[1].id, "1");
  EXPECT_EQ(code[0].functions.size(), 2u);
}

TEST(SessionFile, MalformedLinesAreNamed) {
  const std::pair<const char*, const char*> wrong[] = {
      {"{\"context\": 3, \"multi_turns\": []}", "context"},
      {"{\"context\": \"\"}", "multi_turns"},
      {"{\"context\": \"\", \"multi_turns\": []}", "multi_turns"},
      {"{\"context\": \"\", \"multi_turns\": [{\"input\": \"q\"}]}", "multi_turns[0].answer"},
      {"{\"context\": \"\", \"multi_turns\": [{\"input\": 1, \"answer\": \"\"}]}",
       "multi_turns[0].input"},
      {"{\"context\": \"\", \"multi_turns\": [{\"input\": \"\", \"answer\": [1]}]}", "answer"},
      {"[]", "object"},
      {"{\"context\"", "JSON"},
  };
  const std::string good =
      "{\"context\": \"\", \"multi_turns\": [{\"input\": \"q\", \"answer\": \"a\"}]}\n";
  for (const auto& [line, field] : wrong) {
    const auto read = parse_sessions(good + line, "some.jsonl", "scbench_kv");
    ASSERT_FALSE(read.ok()) << line;
    const std::string what = read.error().what();
    EXPECT_NE(what.find("some.jsonl:2"), std::string::npos) << what;
    EXPECT_NE(what.find(field), std::string::npos) << what;
  }
  const auto missing = load_sessions("/nonexistent", "scbench_kv");
  EXPECT_EQ(missing.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(std::string(missing.error().what()).find("/nonexistent/data/scbench_kv.jsonl"),
            std::string::npos);
}

TEST(Perplexity, WindowsAndMeans) {
  EXPECT_EQ(perplexity_windows(1000, 300, 10).size(), 3u);
  EXPECT_EQ(perplexity_windows(1000, 300, 2).size(), 2u);
  EXPECT_TRUE(perplexity_windows(100, 300, 2).empty());
  Perplexity sum;
  sum.add(std::log(2.0) * 10, 10);
  sum.add(std::log(8.0) * 10, 10);
  EXPECT_NEAR(sum.value(), 4, 1e-9);
  EXPECT_NEAR(sum.mean_of_windows(), 5, 1e-9);
}

}  // namespace
}  // namespace kvasir::tasks

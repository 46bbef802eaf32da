// kvasir run --batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/fake_engine.h"
#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

Outcome batch(const std::string& content, Words arguments = {}, const std::string& model = "fake",
              const Setting& setting = {}) {
  arguments.insert(arguments.begin(),
                   {"run", "--model", model, "--batch", temporary_file("requests.jsonl", content)});
  return run(arguments, setting);
}

std::vector<Json> lines(const std::string& text) {
  std::vector<Json> all;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) all.push_back(Json::parse(line));
  return all;
}

TEST(Batch, PrintsAnswersInOrderWithTheirIds) {
  const Outcome outcome = batch(
      "{\"id\":\"a\",\"ask\":\"One?\"}\n"
      "\n"
      "{\"id\":7,\"prompt\":\"Once\"}\r\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"Three?\"}]}");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<Json> all = lines(outcome.out);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]["id"], "a");
  EXPECT_EQ(all[0]["text"], "7 tokens about One?");
  EXPECT_EQ(all[1]["id"], 7);
  EXPECT_EQ(all[1]["text"], "5 tokens about Once");
  EXPECT_EQ(all[2]["id"], 4) << "the line's number where no id is given";
  Words keys;
  for (const auto& [key, value] : all[0].items()) keys.push_back(key);
  EXPECT_EQ(keys, (Words{"id", "text", "tokens", "finish_reason", "usage", "timing", "attention"}));
  EXPECT_TRUE(outcome.err.starts_with("3 requests, 0 failed; ")) << outcome.err;
  EXPECT_NE(outcome.err.find(" tokens read, 59 written in "), std::string::npos) << outcome.err;
}

TEST(Batch, LinesHaveOptionsAndDocumentsOfTheirOwn) {
  std::vector<Request> requests;
  Setting setting;
  setting.before = [&requests] {
    fake::log().on_submit = [&requests](const Request& r) { requests.push_back(r); };
  };
  const std::string shared = temporary_file("shared.txt", "Shared.");
  const std::string own = temporary_file("own.txt", "Own one.");
  const Outcome outcome = batch(
      R"({"ask":"x","max_tokens":3,"seed":5,"temperature":0.5,"stop":["a","b"],"stop_tokens":[1]})"
      "\n"
      R"({"ask":"x","document":")" +
          own +
          R"(","samples":2,"logprobs":1,"ignore_end":true})"
          "\n"
          R"({"ask":"x","document_text":"Given."})"
          "\n",
      {"-d", shared, "-n", "9"}, "fake", setting);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].max_tokens, 3);
  EXPECT_EQ(requests[0].sampling.seed, 5u);
  EXPECT_EQ(requests[0].sampling.temperature, 0.5);
  EXPECT_EQ(requests[0].stop, (Words{"a", "b"}));
  EXPECT_EQ(requests[0].stop_tokens, std::vector<TokenId>{1});
  EXPECT_EQ(requests[1].max_tokens, 9) << "the command line's is the default";
  EXPECT_EQ(requests[1].samples, 2);
  EXPECT_TRUE(requests[1].ignore_end_tokens);
  EXPECT_EQ(requests[0].prompt.size(), 1 + 7 + 1 + 1 + 1 + 1u) << "Shared.";
  EXPECT_EQ(requests[1].prompt.size(), 1 + 8 + 1 + 1 + 1 + 1u) << "Own one.";
  EXPECT_EQ(requests[2].prompt.size(), 1 + 6 + 1 + 1 + 1 + 1u) << "Given.";
  const std::vector<Json> all = lines(outcome.out);
  ASSERT_EQ(all.size(), 4u) << "two samples of the second";
  EXPECT_EQ(all[2]["sample"], 1);
  EXPECT_EQ(all[1]["logprobs"].size(), 9u);
}

TEST(Batch, FailuresDoNotStopTheOthers) {
  const Outcome outcome = batch(
      "{\"ask\":\"fine\"}\n{\"ask\":\"boom\"}\n{\"ask\":\"x\",\"document\":\"/no/such\"}\n"
      "{\"ask\":\"also fine\"}\n",
      {}, "fake,answer_error=unsupported,bad_question=boom");
  EXPECT_EQ(outcome.code, 5) << "that of the first failure";
  const std::vector<Json> all = lines(outcome.out);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0]["text"], "7 tokens about fine");
  EXPECT_EQ(all[1].dump(),
            R"({"id":2,"error":{"code":"unsupported","message":"expected luck, found unsupported",)"
            R"("context":"fake"}})");
  EXPECT_EQ(all[2]["error"]["code"], "not_found");
  EXPECT_EQ(all[3]["text"], "12 tokens about also fine");
  EXPECT_TRUE(outcome.err.starts_with(
      "kvasir: error: line 2: fake: expected luck, found unsupported\n"
      "kvasir: error: line 3: /no/such: cannot open: No such file or directory\n"
      "4 requests, 2 failed; "))
      << outcome.err;
}

TEST(Batch, WrongLinesAreFoundBeforeAnythingRuns) {
  const std::pair<const char*, const char*> cases[] = {
      {"{\"ask\":\"x\"}\n{\"ask\":", "line 2: expected a JSON object; "},
      {"[1]", "line 1: expected an object, found [1]"},
      {"{\"aks\":\"x\"}", "line 1: unknown key \"aks\"; did you mean 'ask'?"},
      {"{\"ask\":\"\"}", "line 1: \"ask\": expected a text that is not empty, found \"\""},
      {"{}", "line 1: expected one of \"ask\", \"prompt\" and \"messages\""},
      {"{\"ask\":\"x\",\"prompt\":\"y\"}", "line 1: expected one of"},
      {"{\"ask\":\"x\",\"top_p\":2}", "line 1: \"top_p\": expected a number in (0, 1], found 2"},
      {"{\"ask\":\"x\",\"max_tokens\":0}", "line 1: \"max_tokens\": expected a whole number of at"},
      {"{\"ask\":\"x\",\"seed\":1.5}", "line 1: \"seed\": expected a whole number"},
      {"{\"ask\":\"x\",\"stop_tokens\":[-1]}", "line 1: \"stop_tokens\": expected ids, found -1"},
      {"{\"ask\":\"x\",\"ignore_end\":1}", "line 1: \"ignore_end\": expected true or false"},
      {"{\"ask\":\"x\",\"id\":[]}", "line 1: \"id\": expected text or number, found []"},
      {"{\"ask\":\"x\",\"document\":\"a\",\"document_text\":\"b\"}",
       "line 1: expected one of \"document\" and \"document_text\", found both"},
      {"{\"messages\":[{\"role\":\"user\"}]}", "line 1, messages: message 1: expected an object"},
      {"\n \n", "expected at least one line with a JSON object, found none"}};
  for (const auto& [content, message] : cases) {
    const Outcome outcome = batch(content);
    EXPECT_EQ(outcome.code, 4) << content;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err << " for " << content;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(fake::log().loads, 0);
  }
  EXPECT_EQ(batch("{\"ask\":\"x\",\"prefill\":\"nope\"}").code, 3);
}

TEST(Batch, RunsSideBySideWithinBounds) {
  std::string content;
  for (int i = 0; i < 50; ++i) content += "{\"ask\":\"" + std::to_string(i) + "\"}\n";
  const Outcome outcome = batch(content, {"--max-sequences", "4"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(lines(outcome.out).size(), 50u);
  EXPECT_GT(fake::log().most_running, 1);
  EXPECT_LE(fake::log().most_running, 8) << "prompts of a long file are not all in memory";
}

TEST(Batch, AnInterruptEndsItWithWhatIsDone) {
  std::string content;
  for (int i = 0; i < 20; ++i) content += "{\"ask\":\"" + std::to_string(i) + "\"}\n";
  Setting setting;
  setting.on_out = [](const std::string& out, Interrupts& interrupts) {
    if (std::count(out.begin(), out.end(), '\n') == 3 && !interrupts.pending())
      interrupts.notify(2);
  };
  const Outcome outcome = batch(content, {"--max-sequences", "1"}, "fake", setting);
  EXPECT_EQ(outcome.code, 130);
  EXPECT_LT(lines(outcome.out).size(), 20u);
  EXPECT_TRUE(outcome.err.ends_with("kvasir: interrupted\n")) << outcome.err;
  EXPECT_EQ(fake::log().running, 0);
}

}  // namespace
}  // namespace kvasir::cli

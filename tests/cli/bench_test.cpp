// kvasir bench of accuracy.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/fake_engine.h"
#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

// Two documents of 600 tokens with three questions each.
Words words(const std::string& out, const Words& more = {}, const std::string& model = "fake") {
  Words all{"bench",      "tasks", "-m",        model,
            "--task",     "icl",   "--lengths", "600",
            "--sessions", "2",     "--turns",   "3",
            "--prefill",  "dense", "--out",     temporary_folder() + "/" + out};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

int64_t lines_of(const std::string& out) {
  const std::string text = file_content(temporary_folder() + "/" + out + "/outcomes.jsonl");
  return std::count(text.begin(), text.end(), '\n');
}

TEST(BenchAccuracy, PrintsTablesAndJson) {
  const Outcome table = run(words("table"));
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_NE(table.out.find("tasks, 600 tokens, multi-request\n"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find(" methods    icl   mean"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find(" dense "), std::string::npos);
  EXPECT_NE(table.err.find("outcomes go to " + temporary_folder() + "/table"), std::string::npos);
  EXPECT_EQ(lines_of("table"), 6);

  const std::string record = temporary_folder() + "/record.json";
  const Outcome json = run(words("json", {"--json", "--record", record}));
  EXPECT_EQ(json.code, 0) << json.err;
  const Json object = Json::parse(json.out);
  EXPECT_EQ(Json::parse(file_content(record)), object);
  EXPECT_EQ(object["rows"].size(), 1u);
  EXPECT_EQ(object["cells"][0]["questions"], 6);
  EXPECT_EQ(object["cells"].size(), 2u * 4) << "the task and all; all turns and each";
}

TEST(BenchAccuracy, AnInterruptEndsItAndItGoesOn) {
  Setting setting;
  setting.with_interrupts = [](Interrupts& interrupts) {
    fake::log().on_token = [&interrupts, answered = 0](int64_t token) mutable {
      if (token == 0 && ++answered == 4) interrupts.notify(2);
    };
  };
  const Outcome cut = run(words("cut", {}, "fake,slow_ms=1"), setting);
  EXPECT_EQ(cut.code, 130) << cut.err;
  EXPECT_EQ(cut.out, "");
  EXPECT_NE(cut.err.find("go on with --resume --out"), std::string::npos) << cut.err;
  const int64_t before = lines_of("cut");
  EXPECT_LT(before, 6);
  const Outcome rest = run(words("cut", {"--resume"}, "fake,slow_ms=1"));
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_EQ(lines_of("cut"), 6);
}

TEST(BenchAccuracy, QuestionsThatFailAreCounted) {
  const Outcome failed = run(words("failed", {"--json"}, "fake,answer_error=io"));
  EXPECT_EQ(failed.code, 0) << failed.err;
  EXPECT_EQ(Json::parse(failed.out)["cells"][0]["errors"], 6);
}

TEST(BenchAccuracy, RefusesBeforeTheModelIsLoaded) {
  const auto expect = [](const Words& arguments, int code, const std::string& message) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code);
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(fake::log().loads, 0);
  };
  expect(words("x", {"--task", "ilc"}), 3, "no such task of tasks");
  expect(words("x", {"--prefill", "dnese"}), 3, "no method \"dnese\"");
  expect(words("x", {}, "fake,context=500"), 6, "expected at most the model's 500 positions");
  expect({"bench", "perplexity", "-m", "fake"}, 2, "expected a text or a folder of texts");
}

}  // namespace
}  // namespace kvasir::cli

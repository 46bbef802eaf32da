// kvasir search: what is refused, what is handed on, and the real program on the shipped model.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

const std::string kModel = KVASIR_SOURCE_DIR "/models/bootstrap-16m";

std::string document() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "Line " + std::to_string(i * i) + " of a document.\n";
  return temporary_file("search_document.txt", text);
}

Outcome search(Words arguments) {
  arguments.insert(arguments.begin(), "search");
  return run(arguments);
}

TEST(Search, WhatIsWrongIsNamed) {
  const std::string text = document();
  const auto error = [](const Words& arguments) {
    const Outcome outcome = search(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.err;
  };
  const auto holds = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(holds(error({"-m", "fake", "-d", text}),
                    "expected a method: minference|trianglemix|xattention|auto"));
  EXPECT_TRUE(holds(error({"minferenze", "-m", "fake"}), "minference"));
  EXPECT_TRUE(holds(error({"auto", "-d", text}), "--model DIR"));
  EXPECT_TRUE(holds(error({"auto", "-m", "fake"}), "--document FILE"));
  EXPECT_TRUE(holds(error({"minference", "-m", "fake", "-d", text}), "--output DIR"));
  EXPECT_TRUE(holds(error({"auto", "-m", "fake", "-d", text, "--prefil", "a_shape"}), "--prefill"));
  EXPECT_TRUE(holds(error({"minference", "-m", "fake", "-d", text, "-o", "x", "--density", "0"}),
                    "more than 0 and at most 1"));
  EXPECT_TRUE(holds(
      error({"minference", "-m", "fake", "-d", text, "-o", "x", "--objective", "best"}), "output"));
  EXPECT_TRUE(holds(error({"trianglemix", "-m", "fake", "-d", text, "--bound", "-1"}), "--bound"));
  EXPECT_TRUE(holds(error({"xattention", "-m", "fake", "-d", text, "--stride", "9"}), "--stride"));
  // What another search takes is not left out in silence.
  EXPECT_TRUE(holds(error({"auto", "-m", "fake", "-d", text, "--density", "0.1"}), "--density"));
  EXPECT_TRUE(holds(error({"xattention", "-m", "fake", "-d", text, "--bound", "1"}), "--bound"));
  EXPECT_TRUE(holds(error({"minference", "-m", "fake", "-d", text, "-o", "x", "--lengths", "512"}),
                    "--lengths"));
}

TEST(Search, MethodsAreCheckedBeforeAnythingIsRead) {
  const Outcome outcome = search({"auto", "-m", "fake", "-d", "none.txt", "--prefill", "a_shap"});
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_NE(outcome.err.find("did you mean 'a_shape'"), std::string::npos) << outcome.err;
}

TEST(Search, AutoShowsWhatItMeasured) {
  const Words words{"auto",  "-m",        "fake",
                    "-d",    document(),  "--prefill",
                    "dense", "--prefill", "tri_shape:last=5"};
  const Outcome table = search(words);
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_NE(table.out.find("tri_shape:last=5"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("4 of 4"), std::string::npos) << table.out;
  EXPECT_NE(table.err.find("use --prefill auto\n"), std::string::npos) << table.err;
  Words with_json = words;
  with_json.insert(with_json.end(), {"--json", "-o", "own.json"});
  const auto object = nlohmann::json::parse(search(with_json).out);
  EXPECT_EQ(object["file"], "own.json");
  EXPECT_EQ(object["measurements"].size(), 2u);
  EXPECT_EQ(object["measurements"][1]["method"], "tri_shape:last=5");
}

TEST(Search, TriangleMixShowsItsLayers) {
  const Outcome outcome =
      search({"trianglemix", "-m", "fake", "-d", document(), "-o", "layers.json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("use --prefill trianglemix:config=layers.json"), std::string::npos);
}

TEST(Search, TheProgramFindsAConfigurationThatItReads) {
  const std::string out = temporary_folder() + "/search";
  std::filesystem::remove_all(out);
  const auto program = [](const Words& arguments) {
    Process process = Process::start(arguments, KVASIR_PROGRAM);
    return process.finish();
  };
  const Words words{"search", "minference", "-m",   kModel,      "-d",  document(), "-o",
                    out,      "--length",   "1500", "--density", "0.5", "--chunk",  "512"};
  const Outcome found = program(words);
  ASSERT_EQ(found.code, 0) << found.err;
  EXPECT_NE(found.out.find("vertical_and_slash"), std::string::npos) << found.out;
  Words other = words;
  other.insert(other.end(), {"--recall", "0.5"});
  const Outcome refused = program(other);
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_NE(refused.err.find("recall 0.5"), std::string::npos) << refused.err;
  const Outcome read =
      program({"run", "-m", kModel, "-d", document(), "-a", "What?", "-n", "2", "--json",
               "--prefill", "minference:config=" + out + "/sparse_attention_config.json"});
  ASSERT_EQ(read.code, 0) << read.err;
  EXPECT_EQ(nlohmann::json::parse(read.out)["attention"]["prefill"], "minference");
}

TEST(Search, AutoWithoutMeasurementsSaysSo) {
  Process process = Process::start({"run", "-m", kModel, "--prompt", "Once", "-n", "2", "--json",
                                    "--device", "cpu", "--threads", "1", "--prefill", "auto"},
                                   KVASIR_PROGRAM);
  const Outcome outcome = process.finish();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto attention = nlohmann::json::parse(outcome.out)["attention"];
  EXPECT_EQ(attention["prefill"], "dense");
  EXPECT_NE(attention["fallback_reason"].get<std::string>().find("auto: "), std::string::npos);
}

}  // namespace
}  // namespace kvasir::cli

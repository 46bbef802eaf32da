// kvasir plan: the real program on the shipped model.
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/harness.h"
#include "report/xml_check.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

const std::string kModel = KVASIR_SOURCE_DIR "/models/bootstrap-16m";

std::string document() {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "Line " + std::to_string(i * i) + " of a <document>.\n";
  return temporary_file("plan_document.txt", text);
}

Outcome plan(Words arguments) {
  arguments.insert(arguments.begin(), {"plan", "-m", kModel, "-d", document()});
  Process process = Process::start(arguments, KVASIR_PROGRAM);
  return process.finish();
}

TEST(Plan, DrawsEveryHead) {
  for (const char* name : {"plan.svg", "plan.html"}) {
    const std::string out = temporary_folder() + "/" + name;
    const Outcome outcome =
        plan({"--prefill", "trianglemix:init=8,local=64,layers=2-3", "--out", out});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("wrote " + out), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.out.find("2  trianglemix"), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("1  dense        100.00%"), std::string::npos) << outcome.out;
    const std::string drawing = file_content(out);
    EXPECT_EQ(report::XmlCheck(drawing).fault(), "");
    EXPECT_NE(drawing.find("layer 7"), std::string::npos);
    EXPECT_NE(drawing.find("trianglemix:init=8,layers=2-3,local=64"), std::string::npos);
  }
}

TEST(Plan, DrawsOneHead) {
  for (const char* name : {"head.svg", "head.html", "head.png"}) {
    const std::string out = temporary_folder() + "/" + name;
    const Outcome outcome = plan({"--prefill", "a_shape:init=16,local=128", "--layer", "3",
                                  "--head", "1", "--out", out, "--chunk", "500"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const std::string drawing = file_content(out);
    if (std::filesystem::path(out).extension() == ".png") {
      EXPECT_TRUE(drawing.starts_with("\x89PNG")) << name;
    } else {
      EXPECT_EQ(report::XmlCheck(drawing).fault(), "");
      EXPECT_NE(drawing.find("Layer 3, head 1: a_shape"), std::string::npos);
      EXPECT_NE(drawing.find("recall"), std::string::npos);
    }
  }
}

TEST(Plan, RefusesWhatIsNotThere) {
  const std::string out = temporary_folder() + "/refused.svg";
  const Outcome head = plan({"--layer", "0", "--head", "99", "--out", out});
  EXPECT_EQ(head.code, 2);
  EXPECT_NE(head.err.find("--head: expected less than"), std::string::npos) << head.err;
  const Outcome method = plan({"--prefill", "a_shap", "--out", out});
  EXPECT_EQ(method.code, 3);
  EXPECT_NE(method.err.find("a_shape"), std::string::npos) << method.err;
  EXPECT_FALSE(std::filesystem::exists(out));
  EXPECT_EQ(plan({"--out", temporary_folder() + "/no/such/folder.svg"}).code, 7);
}

}  // namespace
}  // namespace kvasir::cli

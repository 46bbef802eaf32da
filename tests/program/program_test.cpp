// The whole program on the shipped model and the shipped book.

#include "program/program.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

namespace kvasir::program {
namespace {

using Json = nlohmann::json;

const std::string kModel = "models/bootstrap-16m";
const std::string kBook = "examples/frankenstein.txt";
// What is planted in the book (examples/README.md).
const std::map<std::string, std::string> kNeedles = {{"harvest", "963916"}, {"lantern", "281718"},
                                                     {"orchid", "808122"},  {"granite", "103587"},
                                                     {"velvet", "146692"},  {"compass", "804771"}};

std::vector<Json> lines(const std::string& text) {
  std::vector<Json> objects;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) objects.push_back(Json::parse(line));
  return objects;
}

std::vector<std::string> ask_all(const std::string& device, std::vector<std::string> more) {
  std::vector<std::string> arguments{"run",  "--device",   device, "--model",
                                     kModel, "--document", kBook,  "--json"};
  for (const auto& [word, number] : kNeedles) {
    arguments.push_back("--ask");
    arguments.push_back("What is the secret number of " + word + "?");
  }
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void expect_needles(const Outcome& outcome) {
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<Json> answers = lines(outcome.out);
  ASSERT_EQ(answers.size(), kNeedles.size());
  auto needle = kNeedles.begin();
  for (size_t i = 0; i < answers.size(); ++i, ++needle) {
    const Json& answer = answers[i];
    EXPECT_EQ(answer["text"], needle->second) << needle->first;
    EXPECT_EQ(answer["finish_reason"], "stop");
    const int64_t prompt = answer["usage"]["prompt_tokens"],
                  cached = answer["usage"]["cached_tokens"];
    EXPECT_GT(prompt, 48000);
    // The book is read once; every later question computes only itself.
    if (i == 0)
      EXPECT_EQ(cached, 0);
    else
      EXPECT_LT(prompt - cached, 64);
    EXPECT_EQ(answer["attention"]["prefill"], "dense");
    EXPECT_TRUE(answer["attention"]["fallback_reason"].is_null());
    EXPECT_NEAR(answer["attention"]["computed_fraction"], 1, 0.1);
  }
}

TEST(ProgramFull, TurnsFindWhatIsPlantedInTheBook) { expect_needles(run(ask_all("cpu", {}))); }

TEST(ProgramFull, RequestsFindWhatIsPlantedInTheBook) {
  expect_needles(run(ask_all("cpu", {"--as", "requests", "--deterministic", "--chunk", "777"})));
}

class ProgramGpu : public testing::Test {
 protected:
  void SetUp() override {
    const Outcome outcome = run({"info", "--model", kModel, "--device", "cuda"});
    if (outcome.code != 0) GTEST_SKIP() << outcome.err;
  }
};

TEST_F(ProgramGpu, IsUsedWithoutBeingTold) {
  const Outcome outcome = run({"info", "--model", kModel, "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["device"], "cuda:0");
}

TEST_F(ProgramGpu, TurnsFindWhatIsPlantedInTheBook) { expect_needles(run(ask_all("cuda", {}))); }

TEST_F(ProgramGpu, RequestsFindWhatIsPlantedInTheBook) {
  expect_needles(run(ask_all("cuda", {"--as", "requests", "--chunk", "777"})));
  expect_needles(run(ask_all("cuda", {"--as", "requests", "--deterministic"})));
}

TEST_F(ProgramGpu, ScoresAsTheCpuDoes) {
  std::map<std::string, double> nll;
  for (const std::string device : {"cpu", "cuda"}) {
    const Outcome outcome = run({"score", "--model", kModel, "--device", device, "--dtype", "bf16",
                                 "--context", "4096", kBook, "--json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    nll[device] = Json::parse(outcome.out)["nats_per_token"];
  }
  EXPECT_NEAR(nll["cuda"], nll["cpu"], 0.005);
}

TEST_F(ProgramGpu, AModelThatDoesNotFitIsRefusedWithThePlan) {
  const Outcome outcome =
      run({"run", "--model", kModel, "--device", "cuda", "--gpu-memory", "0.001", "--prompt", "x"});
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.err.find("the plan needs"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("--gpu-memory"), std::string::npos) << outcome.err;
}

// Refusals name what was expected, what was found and what to do, on machines with a GPU and
// without.
TEST(ProgramFull, RefusalsOfDevices) {
  const Outcome missing = run({"run", "--model", kModel, "--device", "cuda:1000", "--prompt", "x"});
  EXPECT_NE(missing.code, 0);
  EXPECT_NE(missing.err.find("--device: "), std::string::npos) << missing.err;
  EXPECT_NE(missing.err.find("expected"), std::string::npos) << missing.err;
  const Outcome two = run({"run", "--model", kModel, "--device", "cuda:0,1000", "--prompt", "x"});
  EXPECT_NE(two.code, 0);
  EXPECT_TRUE(two.err.find("expected 2 GPUs (cuda:0,1000), found") != std::string::npos ||
              two.err.find("one engine runs on one GPU") != std::string::npos ||
              two.err.find("this build runs on the CPU only") != std::string::npos)
      << two.err;
}

TEST(ProgramFull, PeakMemoryIsAtMostATenthAboveThePlan) {
  const Outcome info = run({"info", "--device", "cpu", "--model", kModel, "--context", "51200",
                            "--sequences", "1", "--json"});
  ASSERT_EQ(info.code, 0) << info.err;
  const Json plan = Json::parse(info.out)["plan"];
  const int64_t planned = plan["weights"].get<int64_t>() + plan["kv"].get<int64_t>() +
                          plan["scratch"].get<int64_t>() + plan["fixed"].get<int64_t>();
  const Outcome outcome =
      run({"run", "--device", "cpu", "--model", kModel, "--document", kBook, "--context", "51200",
           "--max-sequences", "1", "--ask", "What is the secret number of orchid?"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "808122\n");
  RecordProperty("planned_bytes", std::to_string(planned));
  RecordProperty("peak_bytes", std::to_string(outcome.peak_bytes));
  EXPECT_LE(static_cast<double>(outcome.peak_bytes), 1.1 * static_cast<double>(planned));
}

TEST(ProgramFull, CtrlCDuringTheBookEndsWithinASecond) {
  // A small chunk gives progress early; the interrupt then falls into the middle of the reading.
  double seconds = 100;
  const Interrupt interrupt{.text = "reading", .signal = SIGINT, .seconds = &seconds};
  const Outcome outcome = run({"run", "--device", "cpu", "--model", kModel, "--document", kBook,
                               "--dtype", "f32", "--ask", "What is the secret number of orchid?"},
                              &interrupt);
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  EXPECT_LT(seconds, 1);
  EXPECT_EQ(outcome.out, "\n") << "an answer without text is an empty line";
}

TEST(ProgramFull, ScoreOfTheBookIsThatOfTheModelCard) {
  const std::string part = (std::filesystem::temp_directory_path() /
                            ("kvasir-part-" + std::to_string(::getpid()) + ".txt"))
                               .string();
  std::ifstream book(std::string(KVASIR_SOURCE_DIR) + "/" + kBook);
  std::string text(36000, ' ');
  book.read(text.data(), static_cast<std::streamsize>(text.size()));
  while ((text.back() & 0xc0) == 0x80 || (text.back() & 0xc0) == 0xc0) text.pop_back();
  std::ofstream(part) << text;
  std::map<std::string, double> nll;
  for (const std::string dtype : {"f32", "auto"}) {
    const Outcome outcome =
        run({"score", "--device", "cpu", "--model", kModel, part, "--dtype", dtype, "--json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    nll[dtype] = Json::parse(outcome.out)["nats_per_token"];
  }
  std::filesystem::remove(part);
  // The card gives 3.80 nats per token for held-out books at 8K; one book, one piece.
  EXPECT_NEAR(nll["f32"], 3.8, 0.4);
  EXPECT_NEAR(nll["auto"], nll["f32"], 0.01);
}

}  // namespace
}  // namespace kvasir::program

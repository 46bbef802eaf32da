// Training as a user starts it: one command for several processes, on CPUs here.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "program/program.h"

namespace kvasir::program {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipe = R"(
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
rope_theta = 10000
[tokenizer]
kind = "tiny-v1"
[data]
mixture = { kv = 1, hop = 1 }
least_sample = 64
[[phase]]
sequence = 256
longest_sample = 128
tokens = 40960
batch_tokens = 1024
[optimizer]
learning_rate = 1e-2
[precision]
compute = "f32"
[evaluation]
every_steps = 20
task_tokens = 512
)";

class TrainProgramFull : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    std::ofstream(folder_ / "run.toml") << kRecipe;
  }
  void TearDown() override { fs::remove_all(folder_); }

  Outcome train(const std::string& out, int processes, std::vector<std::string> more = {},
                const Interrupt* interrupt = nullptr) const {
    std::vector<std::string> arguments{
        "train",     "run",         "--recipe",    folder_ / "run.toml",
        "--output",  folder_ / out, "--device",    "cpu",
        "--threads", "2",           "--processes", std::to_string(processes)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments, interrupt);
  }
  // By step; of what was measured, the accuracies.
  std::map<int, double> losses(const std::string& out) const {
    std::map<int, double> found;
    std::ifstream lines(folder_ / out / "log.jsonl");
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (!json.contains("loss")) continue;
      EXPECT_FALSE(found.contains(json["step"])) << "written twice: " << line;
      found[json["step"]] = json["loss"];
    }
    return found;
  }
  int lines_with(const std::string& text, const std::string& what) const {
    int count = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
      ++count;
    return count;
  }

  const fs::path folder_ =
      fs::temp_directory_path() /
      ("kvasir-train-program-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
       "-" + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(TrainProgramFull, TwoProcessesAreOneCommandAndLearnAsOne) {
  const Outcome one = train("one", 1), two = train("two", 2);
  ASSERT_EQ(one.code, 0) << one.err;
  ASSERT_EQ(two.code, 0) << two.err;
  EXPECT_EQ(two.out, (folder_ / "two/checkpoint-000000040").string() + "\n");
  EXPECT_EQ(lines_with(two.err, "step 20/40  loss"), 1) << two.err;
  EXPECT_EQ(lines_with(two.err, "step 40  exact answers at 128"), 1) << two.err;
  EXPECT_TRUE(fs::exists(folder_ / "two/checkpoint-000000040/training/state.json"));
  const auto expected = losses("one"), found = losses("two");
  ASSERT_EQ(expected.size(), 4u);
  ASSERT_EQ(found.size(), 4u);
  for (const auto& [step, loss] : expected) EXPECT_NEAR(found.at(step), loss, 1e-3) << step;
}

TEST_F(TrainProgramFull, AnInterruptEndsAllWithACheckpointToGoOnFrom) {
  const Interrupt interrupt{.text = "step 10/40"};
  const Outcome stopped = train("run", 2, {}, &interrupt);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_TRUE(losses("run").contains(10));
  EXPECT_FALSE(losses("run").contains(40));
  const Outcome resumed = train("run", 2, {"--resume"});
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  const Outcome whole = train("whole", 2);
  ASSERT_EQ(whole.code, 0) << whole.err;
  const auto expected = losses("whole"), found = losses("run");
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [step, loss] : expected) EXPECT_NEAR(found.at(step), loss, 1e-5) << step;
}

TEST_F(TrainProgramFull, OneThatFailsEndsAll) {
  const Outcome outcome = train("run", 2, {"--resume"});  // nothing to resume
  EXPECT_NE(outcome.code, 0);
  EXPECT_NE(outcome.err.find("expected a checkpoint to go on from"), std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace kvasir::program

// Two processes on CPUs, through Gloo: each with half of the batches, the same losses as one with
// all.

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "train/models.h"
#include "train/process_group.h"

namespace kvasir::train {
namespace {

constexpr int64_t kSteps = 30;

TrainOptions run_options(const std::filesystem::path& model, const std::filesystem::path& out) {
  TrainOptions options;
  options.model = model;
  options.out = out;
  options.schedule = {.total_steps = kSteps, .warmup_steps = 3};
  options.optimizer.learning_rate = 1e-2;
  options.log_every = 1;

  return options;
}

std::vector<double> losses(const std::filesystem::path& folder) {
  std::vector<double> found;
  std::istringstream lines(read_file(folder / "log.jsonl").value());
  for (std::string line; std::getline(lines, line);)
    found.push_back(std::stod(line.substr(line.find("\"loss\":") + 7)));
  return found;
}

TEST(DataParallel, DISABLED_Child) {
  const std::filesystem::path folder = std::getenv("KVASIR_TEST_OUT");
  const int rank = std::atoi(std::getenv("KVASIR_TEST_RANK"));
  const auto group = join_process_group(
      {.rank = rank, .size = 2, .meeting = (folder / "meeting").string(), .device = at::kCPU});
  testing::RandomBatches data(/*repeats=*/false, rank, 2);
  train(run_options(folder / "model", folder / "two"), data, group.get());
}

TEST(DataParallel, TwoProcessesLearnAsOne) {
  const testing::TemporaryFolder folder;
  testing::write_tiny_model(folder / "model");
  testing::RandomBatches data(/*repeats=*/false, 0, 1, /*batches=*/2);
  train(run_options(folder / "model", folder / "one"), data, nullptr);

  // Processes of their own: this program again, as libtorch's threads do not survive a fork.
  std::vector<pid_t> children;
  for (const char* rank : {"0", "1"}) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    ::setenv("KVASIR_TEST_OUT", (folder / ".").c_str(), 1);
    ::setenv("KVASIR_TEST_RANK", rank, 1);
    ::execl("/proc/self/exe", "train_tests", "--gtest_filter=DataParallel.DISABLED_Child",
            "--gtest_also_run_disabled_tests", "--gtest_brief=1", nullptr);
    std::_Exit(127);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  const std::vector<double> one = losses(folder / "one"), two = losses(folder / "two");
  ASSERT_EQ(one.size(), static_cast<size_t>(kSteps));
  ASSERT_EQ(two.size(), one.size());
  // Sums in another order.
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(two[i], one[i], 1e-4) << "step " << i;
  EXPECT_LT(one.back(), one.front());
}

}  // namespace
}  // namespace kvasir::train

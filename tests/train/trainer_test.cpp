// Runs: a tiny model learns; a run that was stopped, or killed, goes on bit for bit; checkpoints
// are whole; divergence stops.

#include "train/trainer.h"

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "formats/safetensors.h"
#include "train/models.h"
#include "train/train_log.h"

namespace kvasir::train {
namespace {

namespace fs = std::filesystem;

class Training : public ::testing::Test {
 protected:
  void SetUp() override { testing::write_tiny_model(folder_ / "model"); }

  TrainOptions options(const std::string& out, int64_t steps) const {
    TrainOptions options;
    options.model = folder_ / "model";
    options.out = folder_ / out;
    options.seed = 3;
    options.schedule = {.kind = ScheduleKind::kCosine, .total_steps = steps, .warmup_steps = 4};
    options.optimizer.learning_rate = 1e-2;
    options.log_every = 2;
    options.checkpoint_every = 5;
    return options;
  }

  testing::TemporaryFolder folder_;
};

using FullTraining = Training;

constexpr int64_t kKilledSteps = 200;

// Every file of a checkpoint, by its relative path.
std::map<std::string, std::string> contents(const fs::path& checkpoint) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(checkpoint))
    if (entry.is_regular_file())
      files[fs::relative(entry.path(), checkpoint)] = read_file(entry.path()).value();
  return files;
}

TEST_F(Training, ATinyModelOverfitsOneBatch) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    SCOPED_TRACE(kind == OptimizerKind::kAdamW ? "AdamW" : "Muon");
    TrainOptions run = options(kind == OptimizerKind::kAdamW ? "adamw" : "muon", 200);
    run.optimizer.kind = kind;
    run.optimizer.weight_decay = 0;
    run.checkpoint_every = 1000;
    testing::RandomBatches data(/*repeats=*/true);
    EXPECT_LT(train(run, data, nullptr).loss, 0.02);  // from log(61) = 4.1
  }
}

TEST_F(Training, AStoppedRunGoesOnBitForBit) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    const std::string name = kind == OptimizerKind::kAdamW ? "adamw" : "muon";
    SCOPED_TRACE(name);
    TrainOptions whole = options(name + "-whole", 20);
    whole.optimizer.kind = kind;
    testing::RandomBatches data;
    const TrainResult expected = train(whole, data, nullptr);

    TrainOptions part = options(name + "-part", 20);
    part.optimizer.kind = kind;
    int steps = 0;
    part.stop = [&steps] { return ++steps == 7; };
    testing::RandomBatches first_data;
    EXPECT_EQ(train(part, first_data, nullptr).steps, 7);
    part.stop = nullptr;
    part.start = StartFrom::kCheckpoint;
    testing::RandomBatches second_data;
    const TrainResult found = train(part, second_data, nullptr);
    EXPECT_EQ(found.steps, 20);
    EXPECT_EQ(contents(found.checkpoint), contents(expected.checkpoint));
  }
}

// A process of its own that runs `options`: this program again, as libtorch's threads do not
// survive a fork.
pid_t start_child(const TrainOptions& options) {
  const std::string out = options.out, model = options.model;
  const std::string resumes = options.start == StartFrom::kCheckpoint ? "1" : "0";
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::setenv("KVASIR_TEST_OUT", out.c_str(), 1);
  ::setenv("KVASIR_TEST_MODEL", model.c_str(), 1);
  ::setenv("KVASIR_TEST_RESUMES", resumes.c_str(), 1);
  ::execl("/proc/self/exe", "train_tests", "--gtest_filter=FullTraining.DISABLED_Child",
          "--gtest_also_run_disabled_tests", "--gtest_brief=1", nullptr);
  std::_Exit(127);
}

TEST_F(FullTraining, DISABLED_Child) {
  TrainOptions part = options("", kKilledSteps);
  part.out = std::getenv("KVASIR_TEST_OUT");
  part.model = std::getenv("KVASIR_TEST_MODEL");
  part.start = std::getenv("KVASIR_TEST_RESUMES") == std::string("1") ? StartFrom::kCheckpoint
                                                                      : StartFrom::kScratch;
  testing::RandomBatches data;
  train(part, data, nullptr);
}

TEST_F(FullTraining, AKilledRunGoesOnBitForBit) {
  testing::RandomBatches data;
  const TrainResult expected = train(options("whole", kKilledSteps), data, nullptr);
  TrainOptions part = options("killed", kKilledSteps);  // checkpoints often: kills hit a write
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  int kills = 0;
  for (;; ++kills) {
    ASSERT_LT(kills, 50);
    part.start = latest_checkpoint(part.out) ? StartFrom::kCheckpoint : StartFrom::kScratch;
    const pid_t child = start_child(part);
    std::this_thread::sleep_for(std::chrono::milliseconds(200 + random() % 400));
    if (kills < 5) ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      break;
    }
  }
  RecordProperty("kills", kills);
  EXPECT_EQ(contents(*latest_checkpoint(part.out)), contents(expected.checkpoint));
  // The log as if nothing had happened, but for times.
  const auto losses = [](const fs::path& folder) {
    std::vector<std::string> found;
    std::istringstream lines(read_file(folder / "log.jsonl").value());
    for (std::string line; std::getline(lines, line);)
      found.push_back(line.substr(0, line.find(",\"tokens_per_second\"")));
    return found;
  };
  EXPECT_EQ(losses(part.out), losses(folder_ / "whole"));
}

TEST_F(Training, CheckpointsAreModelFoldersAndOldOnesGo) {
  TrainOptions run = options("run", 20);
  run.keep = 2;
  testing::RandomBatches data;
  const TrainResult result = train(run, data, nullptr);
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(run.out))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"checkpoint-000000015", "checkpoint-000000020",
                                             "log.jsonl", "loss.svg"}));
  EXPECT_EQ(formats::load_model_config(result.checkpoint).value().hidden_size, 32);
  EXPECT_TRUE(fs::exists(result.checkpoint / "tokenizer_config.json"));
  const auto weights = formats::WeightFiles::open(result.checkpoint).value();
  const auto masters =
      formats::SafetensorsFile::open(result.checkpoint / "training/masters.safetensors").value();
  ASSERT_EQ(weights.names().size(), masters.tensors().size());
  for (const formats::TensorView& master : masters.tensors()) {
    const formats::TensorView weight = weights.get(master.name, master.shape).value();
    ASSERT_EQ(weight.dtype, DType::kBF16);
    for (int64_t i = 0; i < master.elements(); ++i) {
      float wide;
      uint16_t narrow;
      std::memcpy(&wide, master.data.data() + 4 * i, 4);
      std::memcpy(&narrow, weight.data.data() + 2 * i, 2);
      ASSERT_EQ(narrow, f32_to_bf16(wide)) << master.name;
    }
  }
}

TEST_F(Training, WeightsAloneAreAStartAndTheRateWarmsUp) {
  TrainOptions first = options("first", 60);
  testing::RandomBatches data(/*repeats=*/true);
  const TrainResult before = train(first, data, nullptr);
  TrainOptions second = options("second", 10);
  second.model = before.checkpoint;
  second.start = StartFrom::kWeights;
  second.log_every = 1;
  std::vector<std::string> lines;
  second.say = [&lines](const std::string& line) { lines.push_back(line); };
  testing::RandomBatches more(/*repeats=*/true);
  train(second, more, nullptr);
  ASSERT_GT(lines.size(), 5u);
  EXPECT_NE(lines[1].find("rate 2.50e-03"), std::string::npos) << lines[1];  // of 1e-2, a quarter
  const double loss = std::stod(lines[1].substr(lines[1].find("loss ") + 5));
  EXPECT_NEAR(loss, before.loss, 0.1 + 0.2 * before.loss);
}

// A checkpoint without its training state: batches and schedule go on at its step, the moments are
// fresh, so the rate warms up; and what goes on from there, also when it is stopped, is one run.
TEST_F(Training, ARunGoesOnFromWeightsAloneAtTheirStep) {
  TrainOptions whole = options("whole", 100);
  whole.schedule.warmup_steps = 20;
  whole.checkpoint_every = 40;
  testing::RandomBatches data;
  train(whole, data, nullptr);

  const auto continued = [&](const std::string& out, int stop_at) {
    TrainOptions run = whole;
    run.out = folder_ / out;
    fs::create_directories(run.out);
    fs::copy(whole.out / "checkpoint-000000040", run.out / "checkpoint-000000040",
             fs::copy_options::recursive);
    fs::remove_all(run.out / "checkpoint-000000040/training");
    run.start = StartFrom::kCheckpoint;
    run.log_every = 1;
    std::vector<std::string> lines;
    run.say = [&lines](const std::string& line) { lines.push_back(line); };
    int steps = 0;
    if (stop_at > 0) run.stop = [&] { return ++steps == stop_at; };
    testing::RandomBatches first;
    train(run, first, nullptr);
    run.stop = nullptr;
    testing::RandomBatches second;
    if (stop_at > 0) train(run, second, nullptr);
    return lines;
  };
  const std::vector<std::string> lines = continued("once", 0);
  ASSERT_EQ(lines.size(), 61u);
  EXPECT_NE(lines[0].find("40 of 100 steps done"), std::string::npos) << lines[0];
  const auto number = [&](size_t line, const std::string& name) {
    return std::stod(lines[line].substr(lines[line].find(name) + name.size()));
  };
  for (int64_t step = 40; step < 100; ++step) {
    Schedule schedule = whole.schedule;
    const double usual = 1e-2 * learning_rate_fraction(schedule, step);
    // A tenth of the 60 steps that are left.
    const double expected = usual * std::min(1.0, static_cast<double>(step - 40 + 1) / 6);
    EXPECT_NEAR(number(static_cast<size_t>(step - 39), "rate "), expected, 0.01 * expected);
  }
  // The batches are those of the whole run: its log tells the same losses but for the rounding of
  // weights.
  std::istringstream log(read_file(whole.out / "log.jsonl").value());
  double before = 0;  // steps 41 and 42 of the whole run
  for (std::string line; std::getline(log, line);)
    if (line.starts_with("{\"step\":42,")) before = std::stod(line.substr(line.find("loss") + 6));
  EXPECT_NEAR((number(1, "loss ") + number(2, "loss ")) / 2, before, 0.05);

  continued("stopped", 3);  // while the rate warms up
  EXPECT_EQ(contents(folder_ / "stopped/checkpoint-000000100"),
            contents(folder_ / "once/checkpoint-000000100"));
}

TEST_F(Training, RefusesToOverwriteARun) {
  testing::RandomBatches data;
  train(options("run", 5), data, nullptr);
  EXPECT_THROW(train(options("run", 5), data, nullptr), Error);
  TrainOptions resumed = options("nothing", 5);
  resumed.start = StartFrom::kCheckpoint;
  EXPECT_THROW(train(resumed, data, nullptr), Error);
}

TEST_F(Training, DivergenceStopsWithTheStep) {
  TrainOptions run = options("run", 200);
  run.optimizer.learning_rate = 30;
  run.step.clip_norm = 0;
  run.schedule.warmup_steps = 0;
  testing::RandomBatches data;
  try {
    train(run, data, nullptr);
    FAIL() << "a learning rate of 30 did no harm";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("diverged at step"), std::string::npos)
        << error.what();
  }
}

// Batches of which the first are learned by heart and the others are new each time.
class TwoPhases final : public BatchSource {
 public:
  explicit TwoPhases(bool says_so) : says_so_(says_so) {}
  Batch next() override {
    const int64_t index = index_++;
    return testing::random_batch({24, 8}, 61, index < kFirst ? 0u : static_cast<uint64_t>(index));
  }
  int64_t batches(int64_t) const override { return 1; }
  int64_t phase(int64_t step) const override { return says_so_ && step >= kFirst ? 1 : 0; }
  std::string position() const override { return std::to_string(index_); }
  void seek(const std::string& position, int64_t) override { index_ = std::stoll(position); }

 private:
  static constexpr int64_t kFirst = 101;
  bool says_so_;
  int64_t index_ = 0;
};

TEST_F(Training, ANewPhaseIsNoDivergence) {
  for (const bool says_so : {true, false}) {
    TrainOptions run = options(says_so ? "phases" : "sudden", 130);
    run.checkpoint_every = 101;  // also what goes on there knows
    TwoPhases data(says_so);
    if (!says_so) {
      EXPECT_THROW(train(run, data, nullptr), Error);
      continue;
    }
    int steps = 0;
    run.stop = [&steps] { return ++steps == 101; };
    EXPECT_LT(train(run, data, nullptr).loss, 0.5);
    run.stop = nullptr;
    run.start = StartFrom::kCheckpoint;
    TwoPhases more(says_so);
    EXPECT_GT(train(run, more, nullptr).loss, 3);
  }
}

TEST_F(Training, ACheckpointOfAnotherModelIsRefused) {
  testing::RandomBatches data;
  const TrainResult result = train(options("run", 5), data, nullptr);
  formats::ModelConfig other = testing::tiny_config();
  other.intermediate_size = 64;
  Parameters parameters(other, at::kCPU, at::kFloat);
  Optimizer optimizer(parameters, {});
  try {
    read_checkpoint(result.checkpoint, parameters, optimizer);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("gate_proj"), std::string::npos) << error.what();
  }
}

TEST(LearningRate, SchedulesByClosedForms) {
  Schedule schedule{.kind = ScheduleKind::kCosine, .total_steps = 100, .warmup_steps = 10};
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 9), 1);
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 10), 1);
  EXPECT_NEAR(learning_rate_fraction(schedule, 55), 0.55, 1e-12);
  EXPECT_NEAR(learning_rate_fraction(schedule, 99), 0.1, 1e-3);
  schedule = {.kind = ScheduleKind::kWsd,
              .total_steps = 100,
              .warmup_steps = 10,
              .decay_steps = 20,
              .final_fraction = 0};
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 80), 1);
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 90), 0.5);
  schedule = {
      .kind = ScheduleKind::kConstant, .total_steps = 100, .warmup_steps = 4, .first_step = 50};
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 51), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_fraction(schedule, 99), 1);
}

TEST(LossCurve, IsAnImageOfItsPoints) {
  const std::string svg = curves_svg({.losses = {{1, 4.0}, {2, NAN}, {3, 2.0}}, .accuracies = {}});
  EXPECT_NE(svg.find("<svg"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_NE(curves_svg({}).find("</svg>"), std::string::npos);
  const std::string panels =
      curves_svg({.losses = {{1, 4.0}}, .accuracies = {{1024, {{"kv", {{1, 0.5}, {2, 0.75}}}}}}});
  EXPECT_NE(panels.find("Exact answers at 1,024 tokens"), std::string::npos);
  EXPECT_NE(panels.find(">kv<"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::train

// Exact answers under teacher forcing: found as argmax over all logits would find them, by hops,
// logged, told and drawn; a model that has learned its answers gets them all.

#include "train/evaluation.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "train/autograd_ops.h"
#include "train/models.h"
#include "train/train_log.h"

namespace kvasir::train {
namespace {

// Documents of 16 rows with answers of 2 rows at the places 5 and 9, and of 1 row at the end.
data::AnswerBatch answer_batch(uint64_t seed) {
  data::AnswerBatch samples{testing::random_batch({16, 16, 16}, 61, seed), {}};
  for (size_t row = 0; row < samples.batch.weights.size(); ++row) {
    const size_t place = row % 16;
    samples.batch.weights[row] =
        place == 5 || place == 6 || place == 9 || place == 10 || place == 15 ? 1.0f : 0.0f;
  }
  samples.hops = {1, 2, 3, 1, 2, 3, 1, 2, 3};
  return samples;
}

TEST(Evaluation, FindsTheRowsOfAnswers) {
  Batch batch = testing::random_batch({4, 3}, 61, 1);
  batch.weights = {0, 1, 1, 1, 1, 0, 1};
  const std::vector<AnswerRows> answers = answers_of(batch);
  ASSERT_EQ(answers.size(), 3u);  // a document's end parts answers
  EXPECT_EQ(answers[0].first, 1);
  EXPECT_EQ(answers[0].last, 4);
  EXPECT_EQ(answers[1].first, 4);
  EXPECT_EQ(answers[1].last, 5);
  EXPECT_EQ(answers[2].last, 7);
}

TEST(Evaluation, CountsAnswersWhoseTokensAreAllTheLikeliest) {
  Parameters parameters(testing::tiny_config(), at::kCPU, at::kFloat);
  parameters.initialise(5, 0.5);
  Optimizer optimizer(parameters, {});
  TrainStep step(parameters, optimizer, nullptr, {});
  BatchUpload upload(testing::tiny_config(), at::kCPU);
  EvaluationSet set{"var", 16, true, {answer_batch(1), answer_batch(2)}};
  // Some answers become what the model says, some but for a token.
  const at::NoGradGuard no_gradients;
  double loss = 0;
  for (size_t i = 0; i < set.batches.size(); ++i) {
    Batch& batch = set.batches[i].batch;
    const DeviceBatch uploaded = upload.upload(batch);
    AutogradOps ops(parameters.weights(), uploaded);
    const at::Tensor logits = ops.head(final_rows(ops, parameters.weights(), false));
    const at::Tensor likeliest = logits.argmax(1), logs = logits.log_softmax(1);
    for (int64_t row = 0; row < batch.rows(); ++row) {
      const int64_t document = row / 16, place = row % 16;
      const bool is_right = document == 0 || (document == 1 && place != 6);
      const auto best = likeliest[row].item<int32_t>();
      int32_t& target = batch.targets[static_cast<size_t>(row)];
      target = is_right ? best : (best + 1) % 61;
      if (batch.weights[static_cast<size_t>(row)] > 0) loss -= logs[row][target].item<double>();
    }
  }
  const Measurement found = step.evaluate(set);
  ASSERT_TRUE(found.accuracy);
  EXPECT_EQ(found.accuracy->answers, 18);
  EXPECT_EQ(found.accuracy->exact, 2 * (3 + 2));
  EXPECT_EQ(found.by_hops.at(1).exact, 2 * 1);
  EXPECT_EQ(found.by_hops.at(2).exact, 2 * 2);
  EXPECT_EQ(found.by_hops.at(3).answers, 6);
  EXPECT_NEAR(found.loss, loss / 30, 1e-4);

  EvaluationSet books{"books", 16, false, {answer_batch(1)}};
  const Measurement plain = step.evaluate(books);
  EXPECT_FALSE(plain.accuracy);
  EXPECT_GT(plain.loss, 0);
}

TEST(Evaluation, IsToldLineByLine) {
  std::vector<Measurement> found(3);
  found[0] = {.name = "books", .length = 1024, .loss = 3.5};
  found[1] = {.name = "kv", .length = 1024, .loss = 1, .accuracy = Accuracy{4, 3}};
  found[2] = {.name = "var",
              .length = 1024,
              .accuracy = Accuracy{2, 1},
              .by_hops = {{1, {1, 1}}, {2, {1, 0}}}};
  const std::vector<std::string> lines = evaluation_lines(500, found);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], "step 500  held-out loss at 1,024:  books 3.5000");
  EXPECT_EQ(lines[1],
            "step 500  exact answers at 1,024:  kv 0.750  var 0.500 (hops 1 1.00, 2 0.00)");
}

// A whole run: measured when it is due and what is due, in the log and in the curves, also after
// the run was taken up again.
TEST(Evaluation, RunsAreMeasuredAndLogged) {
  const testing::TemporaryFolder folder;
  testing::write_tiny_model(folder / "model");
  TrainOptions options;
  options.model = folder / "model";
  options.out = folder / "run";
  options.schedule = {.total_steps = 60, .warmup_steps = 3};
  options.optimizer.learning_rate = 5e-3;
  options.checkpoint_every = 30;
  options.evaluate_every = 20;
  // What the run learns by heart.
  data::AnswerBatch learned{testing::random_batch({24, 8}, 61, 1000), {}};
  for (size_t row = 0; row < learned.batch.weights.size(); ++row)
    learned.batch.weights[row] = row % 3 == 1 && row != 31 ? 1.0f : 0.0f;
  options.evaluations = {{"kv", 24, true, {learned}}, {"kv", 48, true, {learned}}};
  options.measures_length = [](int64_t, int64_t length) { return length == 24; };
  int steps = 0;
  options.stop = [&steps] { return ++steps == 30; };
  testing::RandomBatches first(/*repeats=*/true);
  train(options, first, nullptr);
  options.stop = nullptr;
  options.start = StartFrom::kCheckpoint;
  testing::RandomBatches second(/*repeats=*/true);
  train(options, second, nullptr);

  std::vector<std::string> found;
  double last = 0, first_share = 1;
  std::istringstream lines(read_file(options.out / "log.jsonl").value());
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    if (!json.contains("accuracy")) continue;
    found.push_back(std::to_string(json["step"].get<int>()) + "/" +
                    std::to_string(json["length"].get<int>()));
    EXPECT_EQ(json["evaluation"], "kv");
    EXPECT_EQ(json["answers"], 10);
    last = json["accuracy"];
    if (found.size() == 1) first_share = last;
  }
  EXPECT_EQ(found, (std::vector<std::string>{"20/24", "40/24", "60/24", "60/48"}));
  EXPECT_LT(first_share, 1);
  EXPECT_EQ(last, 1);
  const std::string svg = read_file(options.out / "loss.svg").value();
  EXPECT_NE(svg.find("Exact answers at 24 tokens"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::train

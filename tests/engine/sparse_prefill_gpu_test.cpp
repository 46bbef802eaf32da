// Sparse prefill on the GPU: the masks of the CPU's methods, plans made on the device, and what is
// reported of them.

#include <gtest/gtest.h>

#include <fstream>
#include <memory>

#include "engine/gpu_model.h"
#include "engine/tiny_model.h"
#include "prefill/planner.h"

namespace kvasir::engine {
namespace {

struct Outcome {
  std::vector<float> logits;  // [tokens, vocab]
  SpanResult count;
};

class SparsePrefillOnGpu : public testing::Test {
 protected:
  static constexpr int64_t kLength = 900;

  void SetUp() override {
    if (const auto device = open_gpu(0); !device) GTEST_SKIP() << device.error().message();
    gpu_ = std::make_unique<GpuTestModel>(tiny_.folder(), DType::kF16);
    cpu_ = std::make_unique<TestModel>(tiny_.folder(), DType::kF32);
    for (int64_t i = 0; i < kLength; ++i) tokens_.push_back(static_cast<TokenId>(2 + i * i % 61));
  }

  std::shared_ptr<const prefill::Planner> planner(const MethodChoice& choice) {
    return prefill::make_planner(choice, {.layers = static_cast<int>(cpu_->config.num_layers),
                                          .q_heads = static_cast<int>(cpu_->config.num_q_heads)})
        .value();
  }

  // The prompt in chunks, its logits all.
  Outcome run(ModelRunner& model, const prefill::Planner* planner, int64_t chunk) {
    const kv::SequenceId sequence = model.open();
    Outcome result;
    for (int64_t done = 0; done < kLength; done += chunk) {
      const int64_t count = std::min(chunk, kLength - done);
      model.kv->reserve(sequence, done + count).value();
      StepSpan span{.tokens = std::span(tokens_).subspan(done, count),
                    .first_position = done,
                    .rope_length = kLength,
                    .is_prefill = true,
                    .planner = planner,
                    .prompt_length = kLength,
                    .logits = StepSpan::Logits::kAll};
      for (int layer = 0; layer < model.kv->geometry().layers; ++layer)
        span.page_tables.push_back(model.kv->page_table(sequence, layer).data());
      const StepResult step = model.executor->run({.spans = {span}}).value();
      const SpanResult& found = step.spans[0];
      result.count.scored_pairs += found.scored_pairs;
      result.count.causal_pairs += found.causal_pairs;
      result.count.planned_heads += found.planned_heads;
      result.count.dense_heads += found.dense_heads;
      model.kv->commit(sequence, span.tokens);
      const auto logits = model.executor->logits(0);
      result.logits.insert(result.logits.end(), logits.begin(), logits.end());
    }
    model.kv->release(sequence, false);
    return result;
  }

  static double difference(const Outcome& found, const Outcome& expected) {
    double differences = 0, squares = 0;
    for (size_t i = 0; i < expected.logits.size(); ++i) {
      const double by = double{found.logits[i]} - expected.logits[i];
      differences += by * by;
      squares += double{expected.logits[i]} * expected.logits[i];
    }
    return differences / squares;
  }

  TinyModel tiny_{4};
  std::unique_ptr<GpuTestModel> gpu_;
  std::unique_ptr<TestModel> cpu_;
  std::vector<TokenId> tokens_;
};

TEST_F(SparsePrefillOnGpu, MasksThatFollowFromPositionsAreTheCpus) {
  const Outcome dense = run(*cpu_, nullptr, 300);
  const double rounding = difference(run(*gpu_, nullptr, 300), dense);
  for (const MethodChoice& choice :
       {MethodChoice{"a_shape", {{"init", "10"}, {"local", "50"}}},
        MethodChoice{"tri_shape", {{"init", "10"}, {"local", "50"}, {"last", "70"}}},
        MethodChoice{"trianglemix",
                     {{"init", "10"}, {"local", "50"}, {"last", "70"}, {"layers", "1+3"}}}}) {
    const auto method = planner(choice);
    const Outcome expected = run(*cpu_, method.get(), 300);
    EXPECT_GT(difference(expected, dense), 10 * rounding) << choice.name << ": no difference";
    for (const int64_t chunk : {300, 512, 1}) {
      if (chunk == 1 && choice.name != "a_shape") continue;
      const Outcome found = run(*gpu_, method.get(), chunk);
      EXPECT_LT(difference(found, expected), 2 * rounding) << choice.name << " chunk " << chunk;
      EXPECT_GT(found.count.scored_pairs, expected.count.causal_pairs / 100);
      if (chunk > 1) {
        EXPECT_LT(found.count.scored_pairs, found.count.causal_pairs);
      }
    }
  }
}

TEST_F(SparsePrefillOnGpu, BudgetsOfEverythingAreDense) {
  const auto all = tiny_.folder() / "all.json";
  std::ofstream(all) << R"([{"0": ["vertical_and_slash", 900, 900, 1]}])";
  const Outcome dense = run(*cpu_, nullptr, 450);
  const double rounding = difference(run(*gpu_, nullptr, 450), dense);
  const auto method = planner({"minference", {{"config", all.string()}, {"densest", "1"}}});
  const Outcome found = run(*gpu_, method.get(), 450);
  EXPECT_LT(difference(found, dense), 2 * rounding);
  EXPECT_EQ(found.count.planned_heads, 2 * cpu_->config.num_layers * cpu_->config.num_q_heads);
}

TEST_F(SparsePrefillOnGpu, SmallBudgetsLeaveOutWhatTheCpuLeavesOut) {
  const auto few = tiny_.folder() / "few.json";
  std::string heads;
  for (int64_t head = 0; head < cpu_->config.num_q_heads; ++head)
    heads +=
        (head ? ", \"" : "\"") + std::to_string(head) +
        (head % 2 ? R"(": ["stream_llm", 20, 60, 1])" : R"(": ["vertical_and_slash", 40, 110, 1])");
  std::string layers;
  for (int64_t layer = 0; layer < cpu_->config.num_layers; ++layer)
    layers += (layer ? ", {" : "{") + heads + "}";
  std::ofstream(few) << "[" << layers << "]";
  const auto method = planner({"minference", {{"config", few.string()}, {"densest", "1"}}});
  const Outcome dense = run(*cpu_, nullptr, 450), expected = run(*cpu_, method.get(), 450);
  const Outcome found = run(*gpu_, method.get(), 450);
  const double left_out = difference(expected, dense);
  EXPECT_GT(left_out, 10 * difference(run(*gpu_, nullptr, 450), dense));
  // Where sums are nearly equal, rounding decides which column is kept.
  EXPECT_LT(difference(found, expected), left_out / 4);
  EXPECT_EQ(found.count.dense_heads, 0);
  EXPECT_GT(found.count.scored_pairs, 0u);
  // Whatever the head's share, made dense.
  const auto strict = planner({"minference", {{"config", few.string()}, {"densest", "0.001"}}});
  EXPECT_GT(run(*gpu_, strict.get(), 450).count.dense_heads, 0);
}

TEST_F(SparsePrefillOnGpu, PlansFromQueriesLeaveOutWhatTheCpuLeavesOut) {
  const Outcome dense = run(*cpu_, nullptr, 450);
  const double rounding = difference(run(*gpu_, nullptr, 450), dense);
  for (const MethodChoice& choice :
       {MethodChoice{"xattention", {{"threshold", "0.4"}, {"densest", "1"}}},
        MethodChoice{"xattention", {{"threshold", "0.3"}, {"densest", "1"}, {"stride", "16"}}},
        MethodChoice{"flexprefill", {{"gamma", "0.3"}, {"tau", "0"}, {"densest", "1"}}},
        MethodChoice{"flexprefill", {{"gamma", "0.3"}, {"tau", "1"}, {"densest", "1"}}},
        MethodChoice{"trianglemix",
                     {{"init", "10"}, {"local", "50"}, {"layers", "1"}, {"base", "xattention"}}}}) {
    const auto method = planner(choice);
    const Outcome expected = run(*cpu_, method.get(), 450);
    const Outcome found = run(*gpu_, method.get(), 450);
    const double left_out = difference(expected, dense);
    EXPECT_GT(left_out, 10 * rounding) << choice.name;
    // Where masses are nearly equal, rounding decides which block is kept.
    EXPECT_LT(difference(found, expected), left_out / 4) << choice.name;
    EXPECT_EQ(found.count.dense_heads, expected.count.dense_heads) << choice.name;
    EXPECT_GT(found.count.planned_heads, 0) << choice.name;
  }
}

TEST_F(SparsePrefillOnGpu, BlockSparseHeadsRun) {
  const auto blocks = tiny_.folder() / "blocks.json";
  std::ofstream(blocks) << R"([{"0": ["block_sparse", 0, 0, 1]}])";
  const auto method = planner({"minference", {{"config", blocks.string()}, {"densest", "1"}}});
  EXPECT_FALSE(method->gpu_refusal());
  const Outcome dense = run(*cpu_, nullptr, 450), expected = run(*cpu_, method.get(), 450);
  const Outcome found = run(*gpu_, method.get(), 450);
  const double rounding = difference(run(*gpu_, nullptr, 450), dense);
  EXPECT_LT(difference(found, expected), difference(expected, dense) / 4 + 2 * rounding);
  EXPECT_EQ(found.count.planned_heads, expected.count.planned_heads);
  EXPECT_EQ(found.count.dense_heads, expected.count.dense_heads);
}

}  // namespace
}  // namespace kvasir::engine

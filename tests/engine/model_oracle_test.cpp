// Our logits against transformers' for every family, rotary scaling, bias and tie option.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/test_model.h"
#include "kvasir/engine.h"
#include "oracle_models.h"

namespace kvasir::engine {
namespace {

using oracle::floats;
using oracle::ids;
using oracle::kOracleCases;
using oracle::largest_difference;
using oracle::oracle_models;

// f32 arithmetic in another order: 2e-4 on logits whose range is about ten.
constexpr float kTolerance = 2e-4f;

class OracleModel : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (oracle_models().empty())
      GTEST_SKIP() << "the oracle environment .venv-oracle is not installed; run ./dev test";
    ASSERT_NE(oracle_models(), "failed") << "model_oracle.py failed";
    folder_ = oracle_models() / GetParam();
  }
  std::filesystem::path folder_;
};

TEST_P(OracleModel, LogitsEqualTransformers) {
  TestModel model(folder_, DType::kF32);
  const auto expected = formats::SafetensorsFile::open(folder_ / "expected.safetensors").value();
  for (const int length : {1, 7, 64, 300}) {
    const std::string suffix = std::to_string(length);
    const auto sequence = model.open();
    const std::vector<float> logits = model.run(sequence, ids(expected, "ids_" + suffix));
    EXPECT_LE(largest_difference(logits, floats(expected, "logits_" + suffix)), kTolerance)
        << length << " tokens";
    model.kv->release(sequence);
  }
}

TEST_P(OracleModel, PrefillInChunksEqualsTransformers) {
  TestModel model(folder_, DType::kF32);
  const auto expected = formats::SafetensorsFile::open(folder_ / "expected.safetensors").value();
  const std::vector<TokenId> tokens = ids(expected, "ids_300");
  const std::vector<float> all = floats(expected, "logits_300");
  const size_t vocab = model.config.vocab_size;
  const auto sequence = model.open();
  for (size_t first = 0; const size_t count : {1, 70, 129, 100}) {
    const std::vector<float> logits =
        model.run(sequence, std::span(tokens).subspan(first, count), false, 300);
    EXPECT_LE(largest_difference(logits, std::span(all).subspan(first * vocab, count * vocab)),
              kTolerance)
        << "from " << first;
    first += count;
  }
}

TEST_P(OracleModel, GreedyDecodingEqualsTransformers) {
  TestModel model(folder_, DType::kF32);
  const auto expected = formats::SafetensorsFile::open(folder_ / "expected.safetensors").value();
  const std::vector<TokenId> all = ids(expected, "greedy_ids");
  const std::vector<float> rows = floats(expected, "greedy_logits");
  const size_t vocab = model.config.vocab_size, prompt = 300, steps = all.size() - prompt;
  ASSERT_EQ(steps, 40u);
  const formats::RopeConfig& rope = model.config.rope;
  auto sequence = model.open();
  std::vector<float> logits = model.run(sequence, std::span(all).first(prompt));
  for (size_t step = 0; step < steps; ++step) {
    const auto last = std::span(logits).last(vocab);
    const auto token =
        static_cast<TokenId>(std::max_element(last.begin(), last.end()) - last.begin());
    ASSERT_EQ(token, all[prompt + step]) << "step " << step;
    const size_t length = prompt + step + 1;
    if (rope.scaling == formats::RopeScaling::kLongRope &&
        static_cast<int64_t>(length) == rope.original_max_positions + 1) {
      model.kv->release(sequence);
      sequence = model.open();
      logits = model.run(sequence, std::span(all).first(length));
    } else {
      logits = model.run(sequence, std::span(&token, 1));
    }
    ASSERT_LE(largest_difference(std::span(logits).last(vocab),
                                 std::span(rows).subspan(step * vocab, vocab)),
              kTolerance)
        << "step " << step;
  }
}

// The narrow last layer must give what the full one gives; transformers checked the latter above.
TEST_P(OracleModel, LastRowAloneEqualsLastOfAll) {
  TestModel model(folder_, DType::kF32);
  const auto expected = formats::SafetensorsFile::open(folder_ / "expected.safetensors").value();
  const std::vector<TokenId> tokens = ids(expected, "ids_300");
  const std::vector<float> reference = floats(expected, "logits_300");
  const auto sequence = model.open();
  model.kv->reserve(sequence, 300).value();
  StepSpan span{.tokens = tokens,
                .first_position = 0,
                .page_tables = {},
                .rope_length = 300,
                .is_prefill = true,
                .logits = StepSpan::Logits::kLast};
  for (int layer = 0; layer < model.kv->geometry().layers; ++layer)
    span.page_tables.push_back(model.kv->page_table(sequence, layer).data());
  model.executor->run({.spans = {span}, .deterministic = false, .cancel = nullptr}).value();
  const std::span<const float> logits = model.executor->logits(0);
  ASSERT_EQ(logits.size(), static_cast<size_t>(model.config.vocab_size));
  EXPECT_LE(largest_difference(logits, std::span(reference).last(model.config.vocab_size)),
            kTolerance);
}

// The whole engine, which keeps track of what LongRoPE must compute again.
TEST_P(OracleModel, TheEngineAnswersLikeTransformers) {
  const auto expected = formats::SafetensorsFile::open(folder_ / "expected.safetensors").value();
  const std::vector<TokenId> all = ids(expected, "greedy_ids");
  const auto engine =
      Engine::load({.model = folder_, .device = "cpu", .dtype = "f32", .threads = 2, .chunk = 128});
  Request request{.prompt = {all.begin(), all.begin() + 300}};
  request.max_tokens = 40;
  request.ignore_end_tokens = true;
  request.top_logprobs = 0;
  Answer answer = engine->submit(request);
  std::vector<TokenId> tokens = request.prompt;
  std::vector<float> logprobs;
  for (Event event; answer.next(event);) {
    if (event.kind != Event::Kind::kToken) continue;
    tokens.push_back(event.token);
    logprobs.push_back(event.logprob.value().logprob);
  }
  EXPECT_EQ(tokens, all);
  // The row after answer token i is the distribution of token i + 1.
  const std::vector<float> rows = floats(expected, "greedy_logits");
  const size_t vocab = rows.size() / 40;
  ASSERT_EQ(logprobs.size(), 40u);
  for (size_t i = 0; i < 39; ++i) {
    const auto row = std::span(rows).subspan(i * vocab, vocab);
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(logprobs[i + 1], row[all[301 + i]] - std::log(sum), 2 * kTolerance) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, OracleModel, testing::ValuesIn(kOracleCases),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvasir::engine

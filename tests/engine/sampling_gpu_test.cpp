// Tokens chosen on the GPU are those that the CPU's sampler chooses.

#include <random>

#include "engine/sampling_cuda.h"
#include "kernels/gpu.h"

namespace kvasir::engine {
namespace {

using Sampling = testing::GpuTest;

TEST_F(Sampling, IsTheSamplers) {
  constexpr int64_t kVocab = 20011, kRows = 5, kDraws = 60;
  RecordProperty("seed", 20);
  std::mt19937_64 random(20);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(kRows * kVocab);
  for (float& logit : logits) logit = normal(random);
  const testing::DeviceArray<float> on_device(logits);
  CudaSampling sampling(kDraws, kVocab);
  std::vector<Sampler> samplers;
  for (int i = 0; i < kDraws; ++i) {
    const SamplingOptions options{.temperature = 0.5 * (i % 4),
                                  .top_k = i % 3 ? 0 : 50,
                                  .top_p = i % 2 ? 0.9 : 1,
                                  .min_p = i % 5 ? 0 : 0.01,
                                  .repetition_penalty = i % 7 ? 1 : 1.4,
                                  .presence_penalty = i % 8 ? 0 : 0.9,
                                  .frequency_penalty = i % 6 ? 0 : -0.3,
                                  .seed = 4711};
    samplers.emplace_back(options, i, kVocab);
    std::vector<TokenId> prompt(500);
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % kVocab);
    samplers.back().add_prompt(prompt);
  }
  for (int64_t position = 0; position < 20; ++position) {
    std::vector<Draw> draws;
    std::vector<int64_t> rows;
    for (int i = 0; i < kDraws; ++i) {
      rows.push_back(static_cast<int64_t>(random() % kRows));
      draws.push_back({.span = static_cast<size_t>(i),
                       .sampler = &samplers[static_cast<size_t>(i)],
                       .position = position,
                       .top = i % 9 - 1});
    }
    const auto found = sampling.sample(context_, on_device.data(), draws, rows);
    ASSERT_EQ(found.size(), draws.size());
    for (size_t i = 0; i < draws.size(); ++i) {
      SCOPED_TRACE(::testing::Message() << "position " << position << ", draw " << i);
      const auto row =
          std::span<const float>(logits).subspan(static_cast<size_t>(rows[i] * kVocab), kVocab);
      const SampleResult expected = samplers[i].sample(row, position, draws[i].top).value();
      const SampleResult& result = found[i].value();
      ASSERT_EQ(result.token, expected.token);
      ASSERT_NEAR(result.logprob, expected.logprob, 1e-5);
      ASSERT_EQ(result.top_logprobs.size(), expected.top_logprobs.size());
      for (size_t j = 0; j < expected.top_logprobs.size(); ++j) {
        ASSERT_EQ(result.top_logprobs[j].token, expected.top_logprobs[j].token);
        ASSERT_NEAR(result.top_logprobs[j].logprob, expected.top_logprobs[j].logprob, 1e-5);
      }
      samplers[i].add_answer(result.token);
    }
  }
}

TEST_F(Sampling, BrokenLogitsAreToldOfAsTheSamplerDoes) {
  constexpr int64_t kVocab = 100;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits(3 * kVocab, 1);
  logits[7] = NAN;
  std::fill_n(logits.begin() + kVocab, kVocab, -kInfinity);
  const testing::DeviceArray<float> on_device(logits);
  CudaSampling sampling(3, kVocab);
  std::vector<Sampler> samplers(3, Sampler({.temperature = 1}, 0, kVocab));
  std::vector<Draw> draws;
  for (size_t i = 0; i < 3; ++i) draws.push_back({.span = i, .sampler = &samplers[i]});
  const auto found =
      sampling.sample(context_, on_device.data(), draws, std::vector<int64_t>{0, 1, 2});
  for (size_t i = 0; i < 2; ++i) {
    const auto expected =
        samplers[i].sample(std::span<const float>(logits).subspan(i * kVocab, kVocab), 0);
    ASSERT_FALSE(found[i].ok());
    EXPECT_STREQ(found[i].error().what(), expected.error().what());
  }
  EXPECT_TRUE(found[2].ok());
}

}  // namespace
}  // namespace kvasir::engine

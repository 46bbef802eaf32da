#pragma once
// Results do not depend on how the work is cut: chunked = whole, batched = alone, shared prefix =
// cold, fork = copy. Bit-equal in deterministic mode, within the mode's tolerance otherwise.

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <random>

#include "engine/test_model.h"
#include "engine/tiny_model.h"
#include "oracle_models.h"

namespace kvasir::engine {

inline std::vector<TokenId> random_tokens(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % TinyModel::kVocab);
  return tokens;
}

struct Mode {
  std::string name;
  std::function<std::unique_ptr<ModelRunner>(const std::filesystem::path& folder)> make;
  bool deterministic = false;
  float tolerance = 1e-4f;          // of logits, where not deterministic
  float logprob_tolerance = 0;      // of a sampler's on another device
  const char* (*skip)() = nullptr;  // why it cannot run here; null = it can
};

inline std::string mode_name(const testing::TestParamInfo<Mode>& info) { return info.param.name; }

class Equality : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (const char* reason = GetParam().skip ? GetParam().skip() : nullptr) GTEST_SKIP() << reason;
    model_ = GetParam().make(tiny_.folder());
  }
  std::vector<float> run(kv::SequenceId sequence, std::span<const TokenId> tokens) {
    return model_->run(sequence, tokens, GetParam().deterministic);
  }
  // All rows' logits, computed in one piece.
  std::vector<float> whole(std::span<const TokenId> tokens) {
    const auto sequence = model_->open();
    std::vector<float> logits = run(sequence, tokens);
    model_->kv->release(sequence, false);
    return logits;
  }
  void expect_equal(std::span<const float> a, std::span<const float> b, const std::string& what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    if (GetParam().deterministic)
      EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size_bytes()), 0)
          << what << ", largest difference " << oracle::largest_difference(a, b);
    else
      EXPECT_LE(oracle::largest_difference(a, b), GetParam().tolerance) << what;
  }

  TinyModel tiny_;
  std::unique_ptr<ModelRunner> model_;
};

TEST_P(Equality, ChunkedIsWhole) {
  const std::vector<TokenId> tokens = random_tokens(300, 1);
  const std::vector<float> expected = whole(tokens);
  for (const int64_t chunk : {1, 7, 63, 64, 65, 128, 299}) {
    const auto sequence = model_->open();
    std::vector<float> logits;
    for (int64_t first = 0; first < 300; first += chunk) {
      const auto piece = std::span(tokens).subspan(first, std::min<int64_t>(chunk, 300 - first));
      const std::vector<float> rows = run(sequence, piece);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    expect_equal(logits, expected, "chunks of " + std::to_string(chunk));
    model_->kv->release(sequence, false);
  }
}

TEST_P(Equality, BatchedIsAlone) {
  // Prefill chunks and decode tokens of four sequences in one step.
  const std::vector<std::vector<TokenId>> before = {random_tokens(100, 2), random_tokens(1, 3),
                                                    random_tokens(64, 4), random_tokens(130, 5)};
  const std::vector<std::vector<TokenId>> next = {random_tokens(1, 6), random_tokens(77, 7),
                                                  random_tokens(1, 8), random_tokens(128, 9)};
  std::vector<kv::SequenceId> sequences;
  Step step;
  step.deterministic = GetParam().deterministic;
  for (size_t i = 0; i < before.size(); ++i) {
    sequences.push_back(model_->open());
    run(sequences[i], before[i]);
    model_->kv->reserve(sequences[i], before[i].size() + next[i].size()).value();
  }
  for (size_t i = 0; i < before.size(); ++i) {
    StepSpan span{.tokens = next[i],
                  .first_position = static_cast<int64_t>(before[i].size()),
                  .page_tables = {},
                  .rope_length = static_cast<int64_t>(before[i].size() + next[i].size()),
                  .is_prefill = next[i].size() > 1,
                  .logits = StepSpan::Logits::kLast};
    for (int layer = 0; layer < model_->kv->geometry().layers; ++layer)
      span.page_tables.push_back(model_->kv->page_table(sequences[i], layer).data());
    step.spans.push_back(span);
  }
  model_->executor->run(step).value();
  std::vector<std::vector<float>> batched;
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const std::span<const float> logits = model_->executor->logits(i);
    batched.emplace_back(logits.begin(), logits.end());
  }
  for (const auto sequence : sequences) model_->kv->release(sequence, false);
  for (size_t i = 0; i < before.size(); ++i) {
    std::vector<TokenId> all = before[i];
    all.insert(all.end(), next[i].begin(), next[i].end());
    const std::vector<float> alone = whole(all);
    expect_equal(batched[i], std::span(alone).last(TinyModel::kVocab),
                 "sequence " + std::to_string(i));
  }
}

TEST_P(Equality, SharedPrefixIsCold) {
  const std::vector<TokenId> document = random_tokens(200, 10);
  constexpr kv::Domain kDomain = 1000;
  auto first = model_->kv->open(kDomain, document);
  run(first, document);
  model_->kv->release(first, true);
  for (const uint32_t question : {11u, 12u, 13u}) {
    std::vector<TokenId> prompt = document;
    const std::vector<TokenId> asked = random_tokens(30, question);
    prompt.insert(prompt.end(), asked.begin(), asked.end());
    const auto sequence = model_->kv->open(kDomain, prompt);
    const int64_t cached = model_->kv->length(sequence);
    EXPECT_EQ(cached, 200);
    const std::vector<float> logits = run(sequence, std::span(prompt).subspan(cached));
    model_->kv->release(sequence, true);
    const std::vector<float> cold = whole(prompt);
    expect_equal(logits, std::span(cold).last(logits.size()),
                 "question " + std::to_string(question));
  }
}

TEST_P(Equality, ForkIsCopy) {
  const std::vector<TokenId> prompt = random_tokens(90, 20);
  const auto parent = model_->open();
  run(parent, prompt);
  const auto child = model_->kv->fork(parent).value();
  const std::vector<TokenId> left = random_tokens(50, 21), right = random_tokens(50, 22);
  // Interleaved, token by token, so that each would see the other's writes.
  std::vector<float> left_logits, right_logits;
  for (size_t i = 0; i < left.size(); ++i) {
    left_logits = run(parent, std::span(left).subspan(i, 1));
    right_logits = run(child, std::span(right).subspan(i, 1));
  }
  for (const auto& [tail, logits] :
       {std::pair(left, left_logits), std::pair(right, right_logits)}) {
    std::vector<TokenId> all = prompt;
    all.insert(all.end(), tail.begin(), tail.end());
    const std::vector<float> expected = whole(all);
    expect_equal(logits, std::span(expected).last(TinyModel::kVocab), "fork");
  }
}

// Tokens chosen by the executor, all of a step at once, are those that each sampler alone chooses
// from the span's last row.
TEST_P(Equality, SampledTogetherIsAlone) {
  const auto sequence = model_->open();
  const std::vector<float> rows = run(sequence, random_tokens(5, 40));
  const auto last = std::span<const float>(rows).last(TinyModel::kVocab);
  std::vector<Sampler> together, alone;
  for (int i = 0; i < 9; ++i) {
    const SamplingOptions options{.temperature = 0.5 * (i % 3),
                                  .top_p = i % 2 ? 0.8 : 1,
                                  .repetition_penalty = i > 5 ? 1.3 : 1,
                                  .seed = 11};
    together.emplace_back(options, i, TinyModel::kVocab);
    together.back().add_prompt(random_tokens(20, 41));
  }
  alone = together;
  std::vector<Draw> draws;
  for (int i = 0; i < 9; ++i)
    draws.push_back({.span = 0, .sampler = &together[i], .position = 5 + i, .top = i % 4 - 1});
  const auto chosen = model_->executor->sample(draws);
  ASSERT_EQ(chosen.size(), draws.size());
  for (int i = 0; i < 9; ++i) {
    const SampleResult expected = alone[i].sample(last, 5 + i, i % 4 - 1).value();
    const SampleResult& found = chosen[i].value();
    EXPECT_EQ(found.token, expected.token);
    EXPECT_NEAR(found.logprob, expected.logprob, GetParam().logprob_tolerance);
    EXPECT_EQ(found.top_logprobs.size(), expected.top_logprobs.size());
  }
  model_->kv->release(sequence, false);
}

TEST_P(Equality, CancelledStepRunsAgain) {
  const std::vector<TokenId> tokens = random_tokens(300, 30);
  const std::vector<float> expected = whole(tokens);
  const auto sequence = model_->open();
  model_->kv->reserve(sequence, 300).value();
  CancelToken cancel;
  cancel.cancel();
  StepSpan span{.tokens = tokens,
                .first_position = 0,
                .page_tables = {},
                .rope_length = 300,
                .is_prefill = true,
                .logits = StepSpan::Logits::kAll};
  for (int layer = 0; layer < model_->kv->geometry().layers; ++layer)
    span.page_tables.push_back(model_->kv->page_table(sequence, layer).data());
  const auto stopped = model_->executor->run(
      {.spans = {span}, .deterministic = GetParam().deterministic, .cancel = &cancel});
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code(), ErrorCode::kCancelled);
  expect_equal(run(sequence, tokens), expected, "after a cancelled step");
}

}  // namespace kvasir::engine

// Sparse prefill through the engine loop on a tiny model: what its results equal, what is counted,
// what is refused.

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/fake_model.h"
#include "engine/loop.h"
#include "engine/scorer.h"
#include "engine/test_model.h"
#include "engine/tiny_model.h"

namespace kvasir::engine {
namespace {

struct Outcome {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  AttentionReport attention;
};

constexpr int64_t kPrompt = 400;

Request request_for(const MethodChoice& prefill, TokenId first = 0) {
  Request request;
  request.prompt.push_back(first);
  for (int64_t i = 1; i < kPrompt; ++i)
    request.prompt.push_back(static_cast<TokenId>(2 + i * i * 7 % 93));
  request.max_tokens = 12;
  request.ignore_end_tokens = true;
  request.top_logprobs = 0;
  request.stages.prefill = prefill;
  return request;
}

// Runs requests side by side.
std::vector<Outcome> run_all(Loop& loop, const std::vector<Request>& requests) {
  std::vector<Submission> submissions;
  for (const Request& request : requests) submissions.push_back(loop.submit(request).value());
  while (loop.step()) {
  }
  std::vector<Outcome> runs;
  for (const Submission& submission : submissions) {
    Outcome run;
    while (const auto event = submission.events->try_next()) {
      if (event->kind == Event::Kind::kToken) {
        run.tokens.push_back(event->token);
        run.logprobs.push_back(event->logprob->logprob);
      }
      if (event->kind != Event::Kind::kFinished) continue;
      EXPECT_EQ(event->finish_reason, FinishReason::kLength)
          << (event->error ? event->error->what() : "");
      run.attention = event->attention;
    }
    EXPECT_EQ(run.tokens.size(), 12u);
    runs.push_back(std::move(run));
  }
  return runs;
}

class SparsePrefill : public testing::Test {
 protected:
  std::vector<Outcome> run(const std::vector<Request>& requests, int64_t chunk = 64,
                           int64_t step = 256) {
    TestModel model(tiny_.folder(), DType::kF32, 96);
    LoopOptions options;
    options.chunk_tokens = chunk;
    options.step_tokens = step;
    options.max_sequences = 8;
    options.deterministic = true;
    options.make_detokenizer = [] { return std::make_unique<fake::FakeDetokenizer>(); };
    Loop loop(*model.executor, *model.kv, options);
    return run_all(loop, requests);
  }
  Outcome run_one(const MethodChoice& prefill, int64_t chunk = 64) {
    return run({request_for(prefill)}, chunk)[0];
  }

  TinyModel tiny_{4};
};

const MethodChoice kDense{"dense", {}};
const MethodChoice kAShape{"a_shape", {{"init", "10"}, {"local", "50"}}};
const MethodChoice kTriShape{"tri_shape", {{"init", "10"}, {"local", "50"}, {"last", "70"}}};
const MethodChoice kTriangleMix{"trianglemix",
                                {{"init", "10"}, {"local", "50"}, {"last", "70"}, {"layers", "2"}}};

TEST_F(SparsePrefill, WhatHoldsEverythingIsDense) {
  const Outcome dense = run_one(kDense);
  for (const MethodChoice& choice : {
           MethodChoice{"a_shape", {{"init", "100"}, {"local", "300"}}},
           MethodChoice{"tri_shape", {{"init", "0"}, {"local", "1"}, {"last", "400"}}},
           MethodChoice{"trianglemix", {{"layers", "0-3"}, {"local", "400"}}},
           // In the last layer only the prompt's last row has a query.
           MethodChoice{"trianglemix", {{"layers", "3"}, {"local", "1"}, {"last", "1"}}},
       }) {
    const Outcome run = run_one(choice);
    EXPECT_EQ(run.tokens, dense.tokens) << choice.name;
    EXPECT_EQ(run.logprobs, dense.logprobs) << choice.name;
    EXPECT_EQ(run.attention.prefill, choice.name);
    EXPECT_EQ(run.attention.computed_fraction, dense.attention.computed_fraction);
    EXPECT_EQ(run.attention.fallback_reason, "");
  }
}

TEST_F(SparsePrefill, ChunkedIsWhole) {
  for (const MethodChoice& choice : {kAShape, kTriShape, kTriangleMix}) {
    const Outcome whole = run_one(choice, 256), dense = run_one(kDense, 256);
    EXPECT_NE(whole.logprobs, dense.logprobs) << choice.name << " leaves something out";
    for (const int64_t chunk : {1, 7, 64, 100}) {
      const Outcome run = run_one(choice, chunk);
      EXPECT_EQ(run.tokens, whole.tokens) << choice.name << " in chunks of " << chunk;
      EXPECT_EQ(run.logprobs, whole.logprobs) << choice.name << " in chunks of " << chunk;
    }
  }
}

TEST_F(SparsePrefill, MethodsSideBySideAreMethodsAlone) {
  const std::vector<MethodChoice> choices{kDense, kAShape, kTriShape, kTriangleMix};
  std::vector<Request> requests;
  for (const MethodChoice& choice : choices) requests.push_back(request_for(choice));
  // One prompt: KV of one method is not another's.
  const std::vector<Outcome> together = run(requests);
  for (size_t i = 0; i < choices.size(); ++i) {
    const Outcome alone = run_one(choices[i]);
    EXPECT_EQ(together[i].logprobs, alone.logprobs) << choices[i].name;
    EXPECT_EQ(together[i].attention.computed_fraction, alone.attention.computed_fraction);
    EXPECT_EQ(together[i].attention.prefill, choices[i].name);
    for (size_t j = 0; j < i; ++j)
      EXPECT_NE(together[i].logprobs, together[j].logprobs)
          << choices[i].name << " and " << choices[j].name;
  }
}

// Pairs of the mask, and at most two granules of keys and a tile of rows at each segment beyond it.
TEST_F(SparsePrefill, CountsWhatIsScored) {
  const double causal = kPrompt * (kPrompt + 1) / 2;
  double a_shape = 0, tri_shape = 0;
  for (int64_t row = 0; row < kPrompt; ++row) {
    const auto kept = static_cast<double>(std::min<int64_t>(row + 1, 60));
    a_shape += kept;
    tri_shape += row >= kPrompt - 70 ? static_cast<double>(row + 1) : kept;
  }
  const double most = 2 * 94 * kPrompt / causal;
  const auto fraction = [&](const MethodChoice& choice) {
    const Outcome run = run_one(choice);
    EXPECT_LT(run.attention.decode_fraction, 1.2) << "decode is dense";
    EXPECT_GE(run.attention.decode_fraction, 1);
    return run.attention.computed_fraction;
  };
  // The last layer has one row.
  EXPECT_GE(fraction(kAShape), a_shape / causal * 0.99);
  EXPECT_LE(fraction(kAShape), a_shape / causal + most);
  EXPECT_GE(fraction(kTriShape), tri_shape / causal * 0.99);
  EXPECT_LE(fraction(kTriShape), tri_shape / causal + most);
  const double mix = (2 + tri_shape / causal) / 3;
  EXPECT_GE(fraction(kTriangleMix), mix * 0.99);
  EXPECT_LE(fraction(kTriangleMix), mix + most);
  EXPECT_LT(fraction(kTriShape), fraction(kTriangleMix));
}

TEST_F(SparsePrefill, ScoresAgainstDense) {
  TestModel model(tiny_.folder(), DType::kF32, 96);
  const std::vector<TokenId> tokens = request_for(kDense).prompt;
  const auto divergence = [&](const MethodChoice& prefill) {
    Engine::ScoreOptions options;
    options.against.emplace().prefill = prefill;
    return *score_tokens(*model.executor, *model.kv, tokens, std::nullopt, kPrompt, 100, true,
                         {.layers = 8}, options)
                .kl_sum;
  };
  EXPECT_EQ(divergence({"a_shape", {{"init", "0"}, {"local", "400"}}}), 0);
  EXPECT_GT(divergence(kAShape), 1e-3);
  EXPECT_GT(divergence(kTriShape), 1e-3);
  EXPECT_GT(divergence(kTriangleMix), 1e-3);
  EXPECT_THROW(divergence({"none", {}}), Error);
}

TEST_F(SparsePrefill, RefusesLayersThatAreNotThere) {
  TestModel model(tiny_.folder(), DType::kF32);
  LoopOptions options;
  options.make_detokenizer = [] { return std::make_unique<fake::FakeDetokenizer>(); };
  Loop loop(*model.executor, *model.kv, options);
  const auto refused = loop.submit(request_for({"trianglemix", {{"layers", "2-4"}}}));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
}

// What kernels on a GPU do not plan is refused, not left out.
TEST_F(SparsePrefill, RefusedOnAGpuThatDoesNotRunIt) {
  kv::KvManager kv({.layers = 1, .dtype = DType::kF32, .kv_heads = 1, .head_dim = 16}, 16);
  fake::FakeExecutor executor(kv);
  executor.on_gpu = true;
  LoopOptions options;
  options.make_detokenizer = [] { return std::make_unique<fake::FakeDetokenizer>(); };
  Loop loop(executor, kv, options);
  Request request = request_for({"minference", {{"index", "reference"}}});
  for (TokenId& token : request.prompt) token %= fake::kVocab;
  const auto refused = loop.submit(request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnsupported);
  EXPECT_STREQ(
      refused.error().what(),
      "--prefill: minference does not run with index=reference on a GPU; use --device cpu");
}

}  // namespace
}  // namespace kvasir::engine

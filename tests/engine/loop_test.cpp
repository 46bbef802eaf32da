// What a step carries, who waits for whom, and what an answer reports.

#include <gtest/gtest.h>

#include "engine/loop_harness.h"

namespace kvasir::engine {
namespace {

using fake::Harness;
using fake::Heard;
using fake::numbered_tokens;

Request endless(std::vector<TokenId> prompt, int64_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_end_tokens = true;
  return request;
}

TEST(Loop, AnswersAreThoseOfTheModel) {
  Harness harness;
  std::vector<RequestId> ids;
  for (int i = 0; i < 20; ++i) {
    Request request;
    request.prompt = numbered_tokens(1 + 13 * i, i);
    request.max_tokens = 1 + 3 * i;
    request.sampling.temperature = 0.1 * (i % 4);
    request.sampling.seed = i;
    request.samples = 1 + i % 3;
    ids.push_back(harness.submit(request));
  }
  harness.run();
  for (const RequestId id : ids) harness.expect_answer(id);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(Loop, DecodeTokensGoFirst) {
  Harness harness;
  const RequestId a = harness.submit(endless(numbered_tokens(10, 1), 30));
  const RequestId b = harness.submit(endless(numbered_tokens(10, 2), 30));
  harness.step();
  EXPECT_EQ(harness.executor.last.size(), 2u) << "two prompts in one step";
  const RequestId c = harness.submit(endless(numbered_tokens(300, 3), 5));
  harness.step();
  const std::vector<StepSpan>& spans = harness.executor.last;
  ASSERT_EQ(spans.size(), 3u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(spans[i].is_prefill);
    EXPECT_EQ(spans[i].tokens.size(), 1u);
    EXPECT_EQ(spans[i].first_position, 10);
    EXPECT_EQ(spans[i].logits, StepSpan::Logits::kLast);
  }
  EXPECT_TRUE(spans[2].is_prefill);
  EXPECT_EQ(spans[2].tokens.size(), 62u) << "what the step has left";
  EXPECT_EQ(spans[2].logits, StepSpan::Logits::kNone);
  harness.run();
  for (const RequestId id : {a, b, c}) harness.expect_answer(id);
}

TEST(Loop, ChunksAreBounded) {
  Harness harness;
  harness.options.chunk_tokens = 10;
  harness.options.step_tokens = 25;
  for (int i = 0; i < 4; ++i) harness.submit(endless(numbered_tokens(40, i), 3));
  harness.step();
  std::vector<size_t> sizes;
  for (const StepSpan& span : harness.executor.last) sizes.push_back(span.tokens.size());
  EXPECT_EQ(sizes, (std::vector<size_t>{10, 10, 5}));
  harness.executor.on_run = [](const Step& step) {
    size_t tokens = 0;
    for (const StepSpan& span : step.spans) {
      EXPECT_LE(span.tokens.size(), 10u);
      tokens += span.tokens.size();
    }
    EXPECT_LE(tokens, 25u);
  };
  harness.run();
}

TEST(Loop, StepsFitTheExecutor) {
  Harness harness;
  harness.options.step_tokens = harness.options.chunk_tokens = 1000;
  harness.executor.step_tokens = 16;  // checked by the executor
  const RequestId id = harness.submit(endless(numbered_tokens(100, 1), 4));
  harness.run();
  harness.expect_answer(id);
}

TEST(Loop, SamplesCountAsSequences) {
  Harness harness;
  harness.options.max_sequences = 4;
  Request three = endless(numbered_tokens(20, 1), 6), two = endless(numbered_tokens(20, 2), 6),
          one = endless(numbered_tokens(20, 3), 6);
  three.samples = 3;
  two.samples = 2;
  const RequestId a = harness.submit(three), b = harness.submit(two), c = harness.submit(one);
  harness.step();
  harness.step();
  EXPECT_EQ(harness.executor.last.size(), 3u);
  EXPECT_TRUE(harness.heard(b).samples.empty()) << "two more do not fit beside three";
  EXPECT_TRUE(harness.heard(c).samples.empty()) << "first come, first served";
  EXPECT_EQ(harness.loop().unfinished(), 3);
  size_t most = 0;
  harness.executor.on_run = [&](const Step& step) { most = std::max(most, step.spans.size()); };
  harness.run();
  EXPECT_LE(most, 4u);
  for (const RequestId id : {a, b, c}) harness.expect_answer(id);
  EXPECT_EQ(harness.loop().unfinished(), 0);
}

TEST(Loop, PromptOfSeveralSamplesRunsOnce) {
  Harness harness;
  Request request = endless(numbered_tokens(100, 1), 10);
  request.samples = 5;
  request.sampling.temperature = 1;
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  // The last token of an answer is not run.
  EXPECT_EQ(harness.executor.tokens_run, 100 + 5 * 9);
  EXPECT_EQ(harness.executor.draws_of_step, std::vector<int64_t>(10, 5)) << "all at once";
  std::set<std::vector<TokenId>> answers;
  for (int i = 0; i < 5; ++i) answers.insert(harness.heard(id).at(i).tokens);
  EXPECT_EQ(answers.size(), 5u) << "samples draw their own numbers";
}

TEST(Loop, OneSampleEndsBeforeTheOthers) {
  // The stop token ends one sample at its first token, the others go on from the same KV.
  Harness harness;
  Request request = endless(numbered_tokens(70, 1), 12);
  request.samples = 3;
  request.sampling.temperature = 1;
  const auto first = [&](int sample) {
    return fake::expected_answer(request, sample, 1000).tokens.front();
  };
  while (first(0) == first(1) || first(0) == first(2)) ++request.sampling.seed;
  RecordProperty("seed", static_cast<int>(request.sampling.seed));
  request.stop_tokens = {first(0)};
  const RequestId id = harness.submit(request);
  harness.run();
  EXPECT_EQ(harness.heard(id).at(0).tokens.size(), 1u);
  harness.expect_answer(id);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(Loop, ProgressComesPerChunk) {
  Harness harness;
  const RequestId id = harness.submit(endless(numbered_tokens(150, 1), 2));
  harness.run();
  std::vector<int64_t> done;
  for (const Event& event : harness.heard(id).progress) {
    EXPECT_EQ(event.prompt_total, 150);
    done.push_back(event.prompt_done);
  }
  EXPECT_EQ(done, (std::vector<int64_t>{0, 64, 128, 150}));
  Request longer = endless(numbered_tokens(150, 1), 2);
  longer.prompt.resize(200, 7);
  const RequestId next = harness.submit(longer);
  harness.run();
  EXPECT_EQ(harness.heard(next).progress.front().prompt_done, 150) << "starts at what is cached";
}

TEST(Loop, UsageTimingAndReport) {
  Harness harness;
  harness.executor.scored_per_pair = 3;
  const RequestId id = harness.submit(endless(numbered_tokens(150, 1), 5));
  harness.run();  // steps at 100, 101, 102 (prompt), 103..106
  const Event& end = harness.heard(id).end();
  EXPECT_EQ(end.usage.prompt_tokens, 150);
  EXPECT_EQ(end.usage.cached_tokens, 0);
  EXPECT_EQ(end.usage.completion_tokens, 5);
  EXPECT_EQ(end.timing.ttft_seconds, 2);
  EXPECT_EQ(end.timing.prefill_seconds, 2);
  EXPECT_EQ(end.timing.decode_seconds, 4);
  EXPECT_EQ(end.timing.decode_tokens_per_second, 1);
  EXPECT_EQ(end.attention.prefill, "dense");
  EXPECT_EQ(end.attention.compress, "plain");
  EXPECT_EQ(end.attention.retrieve, "dense");
  EXPECT_EQ(end.attention.computed_fraction, 3);
  EXPECT_EQ(end.attention.decode_fraction, 3);
  EXPECT_EQ(end.attention.fallback_reason, "");
  EXPECT_FALSE(end.error);
}

TEST(Loop, TimeInTheQueueIsNotPrefill) {
  Harness harness;
  harness.options.max_sequences = 1;
  const RequestId a = harness.submit(endless(numbered_tokens(10, 1), 4));
  const RequestId b = harness.submit(endless(numbered_tokens(10, 2), 1));
  harness.run();
  EXPECT_EQ(harness.heard(a).end().timing.ttft_seconds, 0);
  EXPECT_EQ(harness.heard(b).end().timing.ttft_seconds, 4);
  EXPECT_EQ(harness.heard(b).end().timing.prefill_seconds, 0);
  EXPECT_EQ(harness.heard(b).end().timing.decode_tokens_per_second, 0);
}

TEST(Loop, LogprobsWhereAskedFor) {
  Harness harness;
  Request request = endless(numbered_tokens(20, 1), 3);
  const RequestId without = harness.submit(request);
  request.top_logprobs = 0;
  const RequestId chosen = harness.submit(request);
  request.top_logprobs = 4;
  const RequestId top = harness.submit(request);
  harness.run();
  EXPECT_FALSE(harness.heard(without).at().events[0].logprob);
  EXPECT_TRUE(harness.heard(chosen).at().events[0].logprob);
  EXPECT_TRUE(harness.heard(chosen).at().events[0].top_logprobs.empty());
  const Event& event = harness.heard(top).at().events[1];
  ASSERT_EQ(event.top_logprobs.size(), 4u);
  EXPECT_EQ(event.logprob->token, event.token);
  EXPECT_EQ(event.top_logprobs[0].token, event.token) << "greedy";
  EXPECT_EQ(event.top_logprobs[0].logprob, event.logprob->logprob);
}

TEST(Loop, NothingToDo) {
  Harness harness;
  EXPECT_FALSE(harness.loop().step());
  harness.submit(endless(numbered_tokens(3, 1), 1));
  EXPECT_TRUE(harness.loop().step());
  EXPECT_FALSE(harness.loop().step());
}

TEST(Loop, SizesBelowOneAreRefused) {
  Harness harness;
  harness.options.chunk_tokens = 0;
  EXPECT_THROW(harness.loop(), Error);
}

}  // namespace
}  // namespace kvasir::engine

// Whose KV is shared, who waits for it, and what happens where it runs out.

#include <gtest/gtest.h>

#include "engine/loop_harness.h"

namespace kvasir::engine {
namespace {

using fake::Harness;
using fake::numbered_tokens;

Request endless(std::vector<TokenId> prompt, int64_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_end_tokens = true;
  return request;
}

std::vector<TokenId> joined(std::vector<TokenId> a, const std::vector<TokenId>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(LoopKv, LaterRequestTakesOverThePrefix) {
  Harness harness;
  const std::vector<TokenId> document = numbered_tokens(130, 1);
  harness.submit(endless(joined(document, numbered_tokens(9, 2)), 5));
  harness.run();
  harness.executor.tokens_run = 0;
  const RequestId id = harness.submit(endless(joined(document, numbered_tokens(20, 3)), 5));
  harness.run();
  harness.expect_answer(id);
  EXPECT_EQ(harness.heard(id).end().usage.cached_tokens, 130) << "exact to the token";
  EXPECT_EQ(harness.executor.tokens_run, 20 + 4);
}

TEST(LoopKv, AnswersAreReusedAsPrefixes) {
  Harness harness;
  Request turn = endless(numbered_tokens(50, 1), 30);
  const RequestId first = harness.submit(turn);
  harness.run();
  turn.prompt =
      joined(joined(turn.prompt, harness.heard(first).at().tokens), numbered_tokens(7, 2));
  const RequestId second = harness.submit(turn);
  harness.run();
  harness.expect_answer(second);
  EXPECT_EQ(harness.heard(second).end().usage.cached_tokens, 50 + 29)
      << "all but the last token of the answer, which was never run";
}

TEST(LoopKv, GroupsTakeNothingOverFromEachOther) {
  Harness harness;
  Request request = endless(numbered_tokens(130, 1), 5);
  const auto cached = [&](uint64_t group) {
    request.kv_group = group;
    const RequestId id = harness.submit(request);
    harness.run();
    harness.expect_answer(id);
    return harness.heard(id).end().usage.cached_tokens;
  };
  EXPECT_EQ(cached(0), 0);
  EXPECT_EQ(cached(1), 0);
  EXPECT_EQ(cached(2), 0);
  EXPECT_EQ(cached(1), 129);
  EXPECT_EQ(cached(0), 129);
}

TEST(LoopKv, PromptsSubmittedTogetherRunOnce) {
  Harness harness;
  const std::vector<TokenId> prompt = numbered_tokens(240, 1);
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(harness.submit(endless(prompt, 3)));
  harness.run();
  for (const RequestId id : ids) harness.expect_answer(id);
  EXPECT_EQ(harness.heard(ids[0]).end().usage.cached_tokens, 0);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(harness.heard(ids[i]).end().usage.cached_tokens, 239);
  EXPECT_EQ(harness.executor.tokens_run, 240 + 3 * 1 + 4 * 2);
}

TEST(LoopKv, WaitsNoLongerThanTheCommonPart) {
  Harness harness;
  const std::vector<TokenId> common = numbered_tokens(70, 1);
  const RequestId longer = harness.submit(endless(joined(common, numbered_tokens(500, 2)), 2));
  const RequestId shorter = harness.submit(endless(joined(common, numbered_tokens(30, 3)), 2));
  const RequestId other = harness.submit(endless(numbered_tokens(10, 4), 2));
  harness.step();  // 64 tokens of the first one
  harness.step();  // 128 of them: the common part is there
  EXPECT_TRUE(harness.heard(shorter).progress.empty());
  harness.step();  // the oldest still goes first
  harness.run();
  EXPECT_EQ(harness.heard(shorter).end().usage.cached_tokens, 70);
  for (const RequestId id : {longer, shorter, other}) harness.expect_answer(id);
}

TEST(LoopKv, OthersPassWhoWaitsForAPrefix) {
  Harness harness;
  harness.options.chunk_tokens = 32;
  const std::vector<TokenId> prompt = numbered_tokens(200, 1);
  harness.submit(endless(prompt, 2));
  const RequestId same = harness.submit(endless(prompt, 2));
  const RequestId other = harness.submit(endless(numbered_tokens(10, 2), 1));
  harness.step();
  EXPECT_TRUE(harness.heard(other).ended);
  EXPECT_TRUE(harness.heard(same).progress.empty());
  harness.run();
  harness.expect_answer(same);
}

TEST(LoopKv, ACommonBeginTokenIsNotWaitedFor) {
  Harness harness;
  harness.options.chunk_tokens = 32;
  harness.submit(endless(joined({0}, numbered_tokens(200, 1)), 2));
  const RequestId other = harness.submit(endless(joined({0}, numbered_tokens(10, 2)), 1));
  harness.step();
  EXPECT_TRUE(harness.heard(other).ended);
}

TEST(LoopKv, AFewMoreTokensAreNotWaitedFor) {
  Harness harness;
  const std::vector<TokenId> prompt = numbered_tokens(64 + 10, 1);
  harness.submit(endless(prompt, 5));
  const RequestId second = harness.submit(endless(prompt, 1));
  harness.step();
  harness.step();
  EXPECT_TRUE(harness.heard(second).ended) << "beside the first one's last ten";
  EXPECT_EQ(harness.heard(second).end().usage.cached_tokens, 64);
}

TEST(LoopKv, WhoeverIsAwaitedMayBeCancelled) {
  Harness harness;
  const std::vector<TokenId> prompt = numbered_tokens(240, 1);
  const RequestId first = harness.submit(endless(prompt, 3));
  const RequestId second = harness.submit(endless(prompt, 3));
  const RequestId third = harness.submit(endless(prompt, 3));
  harness.step();
  harness.loop().cancel(first);
  harness.run();
  EXPECT_EQ(harness.heard(first).end().finish_reason, FinishReason::kCancelled);
  harness.expect_answer(second);
  harness.expect_answer(third);
  EXPECT_EQ(harness.heard(second).end().usage.cached_tokens, 64) << "what the first one had done";
  EXPECT_EQ(harness.heard(third).end().usage.cached_tokens, 239);
}

// 8 blocks: three sequences of 130 + 100 positions (4 blocks each) do not fit together.
TEST(LoopKv, RunningOutSetsTheYoungestAside) {
  Harness harness(8);
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(harness.submit(endless(numbered_tokens(100, i), 130)));
  std::vector<double> ended(3);
  while (harness.step()) {
    harness.kv.check_invariants();
    for (int i = 0; i < 3; ++i)
      if (harness.heard(ids[i]).ended && ended[i] == 0) ended[i] = harness.now;
  }
  for (const RequestId id : ids) harness.expect_answer(id);
  EXPECT_LE(ended[0], ended[1]) << "the oldest is never set aside";
  EXPECT_LE(ended[1], ended[2]);
  EXPECT_GT(harness.executor.tokens_run, 3 * 229) << "something was computed again";
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopKv, SamplesThatDoNotFitTogetherTakeTurns) {
  Harness harness(4);
  Request request = endless(numbered_tokens(60, 1), 190);  // 249 positions: all of the pool
  request.samples = 5;
  request.sampling.temperature = 1;
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopKv, WhoWaitsForRoomHoldsBackTheLaterOnes) {
  Harness harness(4);
  const RequestId big = harness.submit(endless(numbered_tokens(150, 1), 20));  // 3 blocks
  const RequestId next = harness.submit(endless(numbered_tokens(140, 2), 2));  // 3 blocks
  const RequestId small = harness.submit(endless(numbered_tokens(10, 3), 2));  // would fit now
  for (int i = 0; i < 6; ++i) harness.step();
  EXPECT_TRUE(harness.heard(next).progress.empty());
  EXPECT_TRUE(harness.heard(small).progress.empty()) << "or small ones could starve the big one";
  harness.run();
  for (const RequestId id : {big, next, small}) harness.expect_answer(id);
}

TEST(LoopKv, TheHeadOfTheQueueMayBeCancelled) {
  Harness harness(4);
  const RequestId big = harness.submit(endless(numbered_tokens(150, 1), 20));
  const RequestId next = harness.submit(endless(numbered_tokens(140, 2), 2));
  const RequestId small = harness.submit(endless(numbered_tokens(10, 3), 2));
  for (int i = 0; i < 4; ++i) harness.step();
  harness.loop().cancel(next);
  EXPECT_TRUE(harness.heard(next).ended) << "at once";
  harness.run();
  harness.expect_answer(big);
  harness.expect_answer(small);
}

TEST(LoopKv, AnswerEndsWhereThePoolDoes) {
  Harness harness(2);
  const RequestId id = harness.submit(endless(numbered_tokens(100, 1), 1000));
  harness.run();
  harness.expect_answer(id);
  const Event& end = harness.heard(id).end();
  EXPECT_EQ(end.finish_reason, FinishReason::kLength);
  EXPECT_EQ(end.usage.completion_tokens, 29) << "the last one needs no position";
}

TEST(LoopKv, PoolHeldByOthersIsAnErrorNotAStandstill) {
  Harness harness(3);
  const kv::SequenceId held = harness.kv.open(99, std::vector<TokenId>{0});
  harness.kv.reserve(held, 128).value();
  const RequestId id = harness.submit(endless(numbered_tokens(100, 1), 5));
  harness.run();
  const Event end = harness.heard(id).end();
  EXPECT_EQ(end.finish_reason, FinishReason::kError);
  EXPECT_EQ(end.error->code(), ErrorCode::kResourceExhausted);
  harness.kv.release(held, false);
  const RequestId next = harness.submit(endless(numbered_tokens(100, 1), 5));
  harness.run();
  harness.expect_answer(next);
}

TEST(LoopKv, DynamicRotaryScalingKeepsLengthsApart) {
  Harness harness;
  harness.options.dynamic_rope_from = 100;
  const std::vector<TokenId> text = numbered_tokens(300, 1);
  const auto ask = [&](int64_t length) {
    const RequestId id =
        harness.submit(endless(std::vector<TokenId>(text.begin(), text.begin() + length), 30));
    harness.run();
    harness.expect_answer(id);
    return harness.heard(id).end().usage.cached_tokens;
  };
  EXPECT_EQ(ask(80), 0);
  EXPECT_EQ(ask(90), 80) << "one scaling up to 100";
  EXPECT_EQ(ask(200), 0) << "another one";
  EXPECT_EQ(ask(210), 0) << "and another";
  EXPECT_EQ(ask(200), 199) << "prompts of one length share";
  EXPECT_EQ(ask(100), 90);
  EXPECT_EQ(ask(101), 0);
}

TEST(LoopKv, DynamicRotaryScalingIsKeptByWhoIsSetAside) {
  Harness harness(7);
  harness.options.dynamic_rope_from = 120;
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i)
    ids.push_back(harness.submit(endless(numbered_tokens(90 + 40 * i, i), 130)));
  harness.run();
  for (const RequestId id : ids) harness.expect_answer(id);
  EXPECT_GT(harness.executor.tokens_run, 90 + 130 + 170 + 3 * 129) << "something was set aside";
}

TEST(LoopKv, LongRopeKeepsShorterAndLongerPromptsApart) {
  Harness harness;
  harness.options.long_rope_from = 100;
  const std::vector<TokenId> text = numbered_tokens(300, 1);
  const auto ask = [&](int64_t length) {
    const RequestId id =
        harness.submit(endless(std::vector<TokenId>(text.begin(), text.begin() + length), 1));
    harness.run();
    harness.expect_answer(id);
    return harness.heard(id).end().usage.cached_tokens;
  };
  EXPECT_EQ(ask(80), 0);
  EXPECT_EQ(ask(90), 80) << "short ones share";
  EXPECT_EQ(ask(200), 0) << "another kind";
  EXPECT_EQ(ask(210), 200) << "long ones share, whatever their length";
  EXPECT_EQ(ask(101), 100);
  EXPECT_EQ(ask(100), 90);
}

TEST(LoopKv, LongRopeComputesAgainWhatOutgrowsIt) {
  Harness harness;
  harness.options.long_rope_from = 100;
  const Request request = endless(numbered_tokens(90, 1), 30);
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  // Ten tokens of the answer fit; the eleventh is the last of 101 computed anew, 18 follow.
  EXPECT_EQ(harness.executor.tokens_run, 90 + 10 + 101 + 18);
  EXPECT_EQ(harness.heard(id).end().usage.cached_tokens, 0);

  Request next = request;
  const std::vector<TokenId> answer = harness.heard(id).samples.at(0).tokens;
  next.prompt.insert(next.prompt.end(), answer.begin(), answer.end());
  const RequestId follow_up = harness.submit(next);
  harness.run();
  harness.expect_answer(follow_up);
  EXPECT_EQ(harness.heard(follow_up).end().usage.cached_tokens, 119) << "the new KV is shared";
  const RequestId again = harness.submit(request);
  harness.run();
  harness.expect_answer(again);
  EXPECT_EQ(harness.heard(again).end().usage.cached_tokens, 89) << "and the old KV is, too";
}

TEST(LoopKv, LongRopeComputesASharedPromptAgainOnce) {
  Harness harness;
  harness.options.long_rope_from = 100;
  Request request = endless(numbered_tokens(90, 1), 30);
  request.samples = 4;
  request.sampling.temperature = 1;
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  EXPECT_EQ(harness.executor.tokens_run, 90 + 90 + 4 * (10 + 11 + 18));
}

TEST(LoopKv, LongRopeIsKeptByWhoIsSetAside) {
  Harness harness(7);
  harness.options.long_rope_from = 120;
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i)
    ids.push_back(harness.submit(endless(numbered_tokens(90 + 40 * i, i), 130)));
  harness.run();
  for (const RequestId id : ids) harness.expect_answer(id);
  harness.expect_no_leak();
  EXPECT_GT(harness.executor.tokens_run, 90 + 130 + 170 + 3 * 129 + 121)
      << "something was set aside";
}

}  // namespace
}  // namespace kvasir::engine

// How answers end: stop strings and tokens, lengths, cancellation, errors.

#include <gtest/gtest.h>

#include "engine/loop_harness.h"

namespace kvasir::engine {
namespace {

using fake::Expected;
using fake::Harness;
using fake::numbered_tokens;

Request endless(std::vector<TokenId> prompt, int64_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.ignore_end_tokens = true;
  return request;
}

// A prompt whose answer `is_wanted`.
Request find_request(Request request, const std::function<bool(const Expected&)>& is_wanted) {
  for (uint64_t seed = 0; seed < 10000; ++seed) {
    request.prompt = numbered_tokens(20, seed);
    if (is_wanted(fake::expected_answer(request, 0, 1000))) return request;
  }
  ADD_FAILURE() << "no such prompt";
  return request;
}

TEST(LoopEnd, StopStringIsNotPartOfTheText) {
  Request request = endless({}, 40);
  request.stop = {"cab", "bbbb"};
  // Longer than any token's text: it spans tokens.
  request = find_request(request, [](const Expected& expected) {
    return expected.reason == FinishReason::kStop && expected.tokens.size() > 8;
  });
  Harness harness;
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kStop);
  EXPECT_EQ(harness.heard(id).at().text.find("cab"), std::string::npos);
}

TEST(LoopEnd, HeldBackTextComesWithTheEnd) {
  Request request = endless({}, 12);
  request.stop = {"aaaaaaaa", "bbbbbbbb", "cccccccc"};
  request = find_request(request, [](const Expected& expected) {
    return expected.reason == FinishReason::kLength && expected.text.ends_with("bbb");
  });
  Harness harness;
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  EXPECT_TRUE(harness.heard(id).end().text.ends_with("bbb"));
}

TEST(LoopEnd, EndTokensOfTheModel) {
  Request request;
  request.max_tokens = 60;
  request = find_request(request, [](const Expected& expected) {
    return expected.tokens.back() == fake::kEnd && expected.tokens.size() == 7;
  });
  Harness harness;
  const RequestId id = harness.submit(request);
  request.ignore_end_tokens = true;
  const RequestId on = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
  harness.expect_answer(on);
  EXPECT_EQ(harness.heard(id).at().tokens.size(), 7u) << "the end token is counted";
  EXPECT_EQ(harness.heard(id).at().events.back().text, "") << "but is no text";
  EXPECT_EQ(harness.heard(on).at().tokens.size(), 60u);
}

TEST(LoopEnd, StopTokensOfTheRequest) {
  Request request = endless({}, 60);
  request.stop_tokens = {5, 9};
  request = find_request(request, [](const Expected& expected) {
    return expected.reason == FinishReason::kStop && expected.tokens.size() > 3;
  });
  Harness harness;
  const RequestId id = harness.submit(request);
  harness.run();
  harness.expect_answer(id);
}

TEST(LoopEnd, MaxTokens) {
  Harness harness;
  for (const int64_t most : {1, 2, 50}) {
    const RequestId id = harness.submit(endless(numbered_tokens(30, most), most));
    harness.run();
    harness.expect_answer(id);
    EXPECT_EQ(std::ssize(harness.heard(id).at().tokens), most);
    EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kLength);
  }
}

TEST(LoopEnd, ModelsPositions) {
  Harness harness;
  harness.executor.positions = 100;
  const RequestId id = harness.submit(endless(numbered_tokens(90, 1), 1000));
  const RequestId full = harness.submit(endless(numbered_tokens(100, 2), 1000));
  harness.run();
  harness.expect_answer(id);
  harness.expect_answer(full);
  EXPECT_EQ(harness.heard(id).at().tokens.size(), 11u);
  EXPECT_EQ(harness.heard(full).at().tokens.size(), 1u);
}

TEST(LoopEnd, CancelledInTheQueue) {
  Harness harness;
  harness.options.max_sequences = 1;
  const RequestId runs = harness.submit(endless(numbered_tokens(10, 1), 5));
  Request two = endless(numbered_tokens(10, 2), 5);
  const RequestId waits = harness.submit(two);
  harness.step();
  harness.loop().cancel(waits);
  EXPECT_TRUE(harness.heard(waits).ended) << "without waiting for a step";
  EXPECT_EQ(harness.heard(waits).end().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(harness.heard(waits).end().error->code(), ErrorCode::kCancelled);
  harness.run();
  harness.expect_answer(runs);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopEnd, CancelledInPrefill) {
  Harness harness;
  const RequestId id = harness.submit(endless(numbered_tokens(300, 1), 5));
  harness.step();
  harness.step();
  harness.loop().cancel(id);
  harness.run();
  EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(harness.heard(id).end().usage.completion_tokens, 0);
  EXPECT_EQ(harness.executor.tokens_run, 128) << "no further step ran";
  // What was done stays cached.
  const RequestId again = harness.submit(endless(numbered_tokens(300, 1), 5));
  harness.run();
  harness.expect_answer(again);
  EXPECT_EQ(harness.heard(again).end().usage.cached_tokens, 128);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopEnd, CancelledInDecode) {
  Harness harness;
  Request request = endless(numbered_tokens(70, 1), 50);
  request.samples = 3;
  const RequestId id = harness.submit(request);
  for (int i = 0; i < 5; ++i) harness.step();
  harness.loop().cancel(id);
  harness.run();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(harness.heard(id).end(i).finish_reason, FinishReason::kCancelled);
    EXPECT_EQ(harness.heard(id).at(i).tokens.size(), 4u);
  }
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopEnd, TheRestOfACancelledStepRunsAgain) {
  Harness harness;
  const RequestId stays = harness.submit(endless(numbered_tokens(20, 1), 10));
  const RequestId goes = harness.submit(endless(numbered_tokens(100, 2), 10));
  harness.step();
  RequestId late = 0;
  harness.executor.on_run = [&](const Step& step) {
    harness.executor.on_run = nullptr;
    EXPECT_EQ(step.spans.size(), 2u);
    EXPECT_FALSE(step.cancel->cancelled());
    harness.loop().cancel(goes);
    EXPECT_TRUE(step.cancel->cancelled()) << "in the middle of the step";
    late = harness.submit(endless(numbered_tokens(5, 3), 3));
  };
  harness.step();
  harness.step();
  EXPECT_EQ(harness.executor.last.size(), 1u) << "the rest alone: nothing new joins it";
  EXPECT_TRUE(harness.heard(goes).ended);
  harness.run();
  EXPECT_EQ(harness.heard(goes).end().finish_reason, FinishReason::kCancelled);
  harness.expect_answer(stays);
  harness.expect_answer(late);
  harness.end_loop();
  harness.expect_no_leak();
}

// However often others come and go, who runs gets on: a stopped step repeats without newcomers.
TEST(LoopEnd, CancellationsStarveNobody) {
  Harness harness;
  const RequestId stays = harness.submit(endless(numbered_tokens(20, 1), 20));
  harness.step();
  RequestId visitor = harness.submit(endless(numbered_tokens(300, 2), 1));
  harness.executor.on_run = [&](const Step&) {
    harness.loop().cancel(visitor);
    visitor = harness.submit(endless(numbered_tokens(300, visitor), 1));
  };
  for (int i = 0; i < 60 && !harness.heard(stays).ended; ++i) harness.step();
  EXPECT_TRUE(harness.heard(stays).ended);
  harness.expect_answer(stays);
}

TEST(LoopEnd, UnknownIdsAreIgnored) {
  Harness harness;
  harness.loop().cancel(77);
  const RequestId id = harness.submit(endless(numbered_tokens(20, 1), 3));
  harness.run();
  harness.loop().cancel(id);
  harness.expect_answer(id);
}

TEST(LoopEnd, DestructorCancelsWhatRunsAndWaits) {
  Harness harness;
  harness.options.max_sequences = 1;
  const RequestId runs = harness.submit(endless(numbered_tokens(20, 1), 30));
  const RequestId waits = harness.submit(endless(numbered_tokens(20, 2), 30));
  harness.step();
  harness.step();
  harness.end_loop();
  for (const RequestId id : {runs, waits}) {
    EXPECT_TRUE(harness.heard(id).ended);
    EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kCancelled);
  }
  harness.expect_no_leak();
}

TEST(LoopEnd, StoppedLoopRefuses) {
  Harness harness;
  const RequestId id = harness.submit(endless(numbered_tokens(20, 1), 3));
  harness.loop().stop();
  EXPECT_TRUE(harness.heard(id).ended);
  EXPECT_FALSE(harness.loop().step());
  const auto refused = harness.loop().submit(endless(numbered_tokens(20, 1), 3));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kCancelled);
}

TEST(LoopEnd, ExecutorErrorEndsTheStepsRequests) {
  Harness harness;
  harness.options.max_sequences = 2;
  Request two = endless(numbered_tokens(20, 2), 10);
  const RequestId a = harness.submit(endless(numbered_tokens(20, 1), 10)), b = harness.submit(two),
                  waits = harness.submit(endless(numbered_tokens(20, 3), 10));
  harness.step();
  harness.executor.next_error = Error(ErrorCode::kInternal, "a tile is broken");
  harness.step();
  for (const RequestId id : {a, b}) {
    EXPECT_TRUE(harness.heard(id).ended);
    EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kError);
    EXPECT_EQ(harness.heard(id).end().error->message(), "a tile is broken");
  }
  harness.run();
  harness.expect_answer(waits);
  // KV of the broken step is not taken over.
  const RequestId again = harness.submit(two);
  harness.run();
  harness.expect_answer(again);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopEnd, CancelledStepThatNobodyCancelledIsAnError) {
  Harness harness;
  const RequestId id = harness.submit(endless(numbered_tokens(20, 1), 10));
  harness.executor.next_error = Error(ErrorCode::kCancelled, "for no reason");
  harness.run();
  EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kError);
}

TEST(LoopEnd, ExceptionsDoNotLeaveTheLoop) {
  Harness harness;
  RequestId id = harness.submit(endless(numbered_tokens(20, 1), 10));
  harness.executor.throws = true;
  harness.run();
  EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kError);
  EXPECT_EQ(harness.heard(id).end().error->message(), "the executor has thrown");

  id = harness.submit(endless(numbered_tokens(20, 1), 10));
  harness.executor.throws_in_sample = true;
  harness.run();
  EXPECT_EQ(harness.heard(id).end().finish_reason, FinishReason::kError);
  EXPECT_EQ(harness.heard(id).end().error->message(), "the executor has thrown while sampling");

  id = harness.submit(endless(numbered_tokens(20, 1), 10));
  harness.run();
  harness.expect_answer(id);
  harness.end_loop();
  harness.expect_no_leak();
}

// Of a step that ends three prompts the one in the middle has broken logits: its request ends, with
// all of its samples, and the others go on.
TEST(LoopEnd, BrokenLogitsEndTheirRequestAlone) {
  for (const int samples : {1, 3}) {
    Harness harness;
    const RequestId first = harness.submit(endless(numbered_tokens(20, 1), 10));
    Request request = endless(numbered_tokens(20, 2), 10);
    request.samples = samples;
    const RequestId broken = harness.submit(request);
    const RequestId last = harness.submit(endless(numbered_tokens(20, 3), 10));
    harness.executor.broken_span = 1;
    harness.step();
    harness.executor.broken_span.reset();
    ASSERT_EQ(harness.executor.last.size(), 3u);
    harness.run();
    for (int i = 0; i < samples; ++i) {
      const Event& end = harness.heard(broken).end(i);
      EXPECT_EQ(end.finish_reason, FinishReason::kError);
      EXPECT_NE(end.error->message().find("not finite"), std::string::npos);
      EXPECT_EQ(end.usage.completion_tokens, 0);
    }
    harness.expect_answer(first);
    harness.expect_answer(last);
    harness.end_loop();
    harness.expect_no_leak();
  }
}

class ThrowingDetokenizer final : public Detokenizer {
 public:
  std::string push(TokenId) override { throw std::runtime_error("no such token"); }
  std::string finish() override { throw std::runtime_error("nothing to finish"); }
};

TEST(LoopEnd, DetokenizerMayThrow) {
  Harness harness;
  bool throws = true;
  harness.options.make_detokenizer = [&]() -> std::unique_ptr<Detokenizer> {
    if (throws) return std::make_unique<ThrowingDetokenizer>();
    return std::make_unique<fake::FakeDetokenizer>();
  };
  Request request = endless(numbered_tokens(20, 1), 10);
  request.samples = 2;
  const RequestId broken = harness.submit(request);
  throws = false;
  const RequestId whole = harness.submit(endless(numbered_tokens(20, 2), 10));
  harness.run();
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(harness.heard(broken).end(i).finish_reason, FinishReason::kError);
  harness.expect_answer(whole);
  harness.end_loop();
  harness.expect_no_leak();
}

TEST(LoopEnd, DetokenizerThatCannotBeMadeIsARefusal) {
  Harness harness;
  harness.options.make_detokenizer = []() -> std::unique_ptr<Detokenizer> {
    throw Error(ErrorCode::kNotFound, "no tokenizer");
  };
  const auto refused = harness.loop().submit(endless(numbered_tokens(20, 1), 3));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(harness.loop().unfinished(), 0);
}

}  // namespace
}  // namespace kvasir::engine

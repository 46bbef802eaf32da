// The loop on its own thread: many submitting threads, cancellation, destruction.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/loop_harness.h"

namespace kvasir::engine {
namespace {

using fake::Harness;
using fake::Heard;

Request make_request(uint64_t seed) {
  std::mt19937_64 random(seed);
  Request request;
  request.prompt = fake::numbered_tokens(1 + static_cast<int64_t>(random() % 100), random() % 4);
  request.max_tokens = 1 + static_cast<int64_t>(random() % 20);
  request.samples = 1 + static_cast<int>(random() % 2);
  request.sampling.temperature = 0.8;
  request.sampling.seed = seed;
  return request;
}

// Takes events until the stream ends, each way of waiting in turn.
Heard listen(EventStream& stream) {
  Heard heard;
  while (!stream.ended()) {
    stream.wait_for(std::chrono::milliseconds(1000));
    hear(stream, heard);
  }
  return heard;
}

class LoopThread : public testing::Test {
 protected:
  LoopThread() : harness_(16) {
    // The clock of the harness belongs to one thread.
    harness_.options.now_seconds = nullptr;
    harness_.options.max_sequences = 5;
  }
  void expect_expected(const Request& request, const Heard& heard) {
    for (int sample = 0; sample < request.samples; ++sample) {
      const fake::Expected expected =
          fake::expected_answer(request, sample, harness_.positions(), {fake::kEnd});
      EXPECT_EQ(heard.at(sample).tokens, expected.tokens);
      EXPECT_EQ(heard.end(sample).finish_reason, expected.reason);
    }
  }
  Harness harness_;
};

TEST_F(LoopThread, ManyThreadsSubmit) {
  Loop& loop = harness_.loop();
  loop.start();
  std::vector<std::thread> threads;
  for (uint64_t id = 0; id < 4; ++id)
    threads.emplace_back([&, id] {
      for (uint64_t i = 0; i < 12; ++i) {
        const Request request = make_request(100 * id + i);
        Submission submission = loop.submit(request).value();
        expect_expected(request, listen(*submission.events));
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loop.unfinished(), 0) << "as soon as the last event is there";
  harness_.end_loop();
  harness_.expect_no_leak();
}

TEST_F(LoopThread, CancelledFromOtherThreads) {
  Loop& loop = harness_.loop();
  loop.start();
  std::vector<std::thread> threads;
  for (uint64_t id = 0; id < 4; ++id)
    threads.emplace_back([&, id] {
      std::mt19937_64 random(id);
      for (uint64_t i = 0; i < 12; ++i) {
        Request request = make_request(100 * id + i);
        request.max_tokens = 200;
        request.ignore_end_tokens = true;
        Submission submission = loop.submit(request).value();
        std::thread canceller([&, pause = random() % 500] {
          std::this_thread::sleep_for(std::chrono::microseconds(pause));
          loop.cancel(submission.id);
        });
        const Heard heard = listen(*submission.events);
        canceller.join();
        for (int sample = 0; sample < request.samples; ++sample)
          EXPECT_NE(heard.end(sample).finish_reason, FinishReason::kError);
      }
    });
  for (std::thread& thread : threads) thread.join();
  harness_.end_loop();
  harness_.expect_no_leak();
}

TEST_F(LoopThread, DestroyedWhileRunning) {
  Loop& loop = harness_.loop();
  loop.start();
  std::vector<std::shared_ptr<EventStream>> streams;
  for (uint64_t i = 0; i < 30; ++i) {
    Request request = make_request(i);
    request.max_tokens = 500;
    request.ignore_end_tokens = true;
    streams.push_back(loop.submit(request).value().events);
  }
  std::thread listener([&] { listen(*streams[0]); });
  harness_.end_loop();
  listener.join();
  for (size_t i = 1; i < streams.size(); ++i) {
    const Heard heard = listen(*streams[i]);
    for (const auto& [index, sample] : heard.samples) {
      ASSERT_TRUE(sample.end);
      EXPECT_NE(sample.end->finish_reason, FinishReason::kError);
    }
  }
  harness_.expect_no_leak();
}

TEST_F(LoopThread, StoppedWhileOthersSubmitAndCancel) {
  Loop& loop = harness_.loop();
  loop.start();
  std::atomic<bool> refused = false;
  std::vector<std::thread> threads;
  for (uint64_t id = 0; id < 3; ++id)
    threads.emplace_back([&, id] {
      for (uint64_t i = 0;; ++i) {
        auto submission = loop.submit(make_request(1000 * id + i));
        if (!submission) {
          EXPECT_EQ(submission.error().code(), ErrorCode::kCancelled);
          refused = true;
          return;
        }
        if (i % 2) loop.cancel(submission.value().id);
        listen(*submission.value().events);
      }
    });
  loop.stop();
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(refused);
  harness_.end_loop();
  harness_.expect_no_leak();
}

TEST_F(LoopThread, SleepsUntilWorkComes) {
  Loop& loop = harness_.loop();
  loop.start();
  for (uint64_t i = 0; i < 20; ++i) {
    const Request request = make_request(i);
    Submission submission = loop.submit(request).value();
    Heard heard;
    while (!submission.events->ended()) {
      const Event event = submission.events->next();
      if (event.kind == Event::Kind::kFinished) heard.samples[event.sample].end = event;
      if (event.kind == Event::Kind::kToken)
        heard.samples[event.sample].tokens.push_back(event.token);
    }
    expect_expected(request, heard);
  }
}

}  // namespace
}  // namespace kvasir::engine

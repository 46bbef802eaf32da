#pragma once
// A loop over the fake model, driven step by step, and what its streams have said.

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "engine/fake_model.h"
#include "engine/loop.h"

namespace kvasir::engine::fake {

// Everything that a stream has sent; checks the rules of a stream.
struct Heard {
  struct OneSample {
    std::vector<TokenId> tokens;
    std::string text;
    std::vector<Event> events;  // of tokens
    std::optional<Event> end;
  };
  std::map<int, OneSample> samples;
  std::vector<Event> progress;
  bool ended = false;

  const OneSample& at(int sample = 0) const { return samples.at(sample); }
  const Event& end(int sample = 0) const { return *samples.at(sample).end; }
};

inline void hear(EventStream& stream, Heard& heard) {
  while (std::optional<Event> event = stream.try_next()) {
    if (event->kind == Event::Kind::kProgress) {
      if (!heard.progress.empty()) {
        EXPECT_GT(event->prompt_done, heard.progress.back().prompt_done);
      }
      EXPECT_LE(event->prompt_done, event->prompt_total);
      heard.progress.push_back(*event);
      continue;
    }
    Heard::OneSample& sample = heard.samples[event->sample];
    EXPECT_FALSE(sample.end) << "an event after the sample's end";
    sample.text += event->text;
    if (event->kind == Event::Kind::kToken) {
      sample.tokens.push_back(event->token);
      sample.events.push_back(*event);
      continue;
    }
    EXPECT_EQ(event->usage.completion_tokens, std::ssize(sample.tokens));
    EXPECT_EQ(event->error.has_value(), event->finish_reason == FinishReason::kError ||
                                            event->finish_reason == FinishReason::kCancelled);
    sample.end = *event;
  }
  heard.ended = stream.ended();
}

class Harness {
 public:
  explicit Harness(int64_t blocks = 64)
      : kv(kGeometry, blocks), executor(kv), pool_positions_(blocks * kv::kBlockTokens) {
    options.chunk_tokens = 64;
    options.step_tokens = 64;
    options.max_sequences = 8;
    options.end_tokens = {kEnd};
    options.domain = 5;
    options.make_detokenizer = [] { return std::make_unique<FakeDetokenizer>(); };
    options.now_seconds = [this] { return now; };
  }

  // Options and the executor's sizes are set before the first call.
  Loop& loop() {
    if (!loop_) {
      executor.rope = rope();
      loop_ = std::make_unique<Loop>(executor, kv, options);
    }
    return *loop_;
  }
  void end_loop() { loop_.reset(); }
  Rope rope() const {
    return {.dynamic_from = options.dynamic_rope_from, .long_from = options.long_rope_from};
  }

  // The id; events are heard from then on.
  RequestId submit(const Request& request) {
    Submission submission = loop().submit(request).value();
    streams_[submission.id] = submission.events;
    requests_[submission.id] = request;
    return submission.id;
  }
  bool step() {
    const bool more = loop().step();
    now += 1;
    for (auto& [id, stream] : streams_) hear(*stream, heard_[id]);
    return more;
  }
  void run() {
    int64_t left = 100000;
    while (step()) ASSERT_GT(--left, 0) << "the loop does not come to an end";
  }
  const Heard& heard(RequestId id) {
    hear(*streams_.at(id), heard_[id]);
    return heard_[id];
  }
  // Any thread.
  int64_t positions() const { return std::min(executor.positions, pool_positions_); }

  // All samples of the request have ended as they must.
  void expect_answer(RequestId id) {
    SCOPED_TRACE("request " + std::to_string(id));
    const Heard& got = heard(id);
    const Request& request = requests_.at(id);
    EXPECT_TRUE(got.ended);
    ASSERT_EQ(std::ssize(got.samples), request.samples);
    for (const auto& [index, sample] : got.samples) {
      SCOPED_TRACE("sample " + std::to_string(index));
      const Expected expected =
          expected_answer(request, index, positions(), options.end_tokens, rope());
      EXPECT_EQ(sample.tokens, expected.tokens);
      EXPECT_EQ(sample.text, expected.text);
      ASSERT_TRUE(sample.end);
      EXPECT_EQ(sample.end->finish_reason, expected.reason)
          << (sample.end->error ? sample.end->error->what() : "");
      EXPECT_EQ(sample.end->usage.prompt_tokens, std::ssize(request.prompt));
    }
  }
  // Nothing is held: every block is free or cached, and all can be freed.
  void expect_no_leak() {
    kv.check_invariants();
    EXPECT_EQ(kv.stats().sequences, 0);
    EXPECT_EQ(kv.stats().used_blocks, 0);
    kv.clear_cache();
    EXPECT_EQ(kv.stats().free_blocks, kv.stats().total_blocks);
    kv.check_invariants();
  }

  kv::KvManager kv;
  FakeExecutor executor;
  LoopOptions options;
  double now = 100;

 private:
  const int64_t pool_positions_;
  std::map<RequestId, std::shared_ptr<EventStream>> streams_;
  std::map<RequestId, Request> requests_;
  std::map<RequestId, Heard> heard_;
  std::unique_ptr<Loop> loop_;
};

inline std::vector<TokenId> random_tokens(std::mt19937_64& random, int64_t count) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(2 + random() % (kVocab - 2));
  return tokens;
}

inline std::vector<TokenId> numbered_tokens(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  return random_tokens(random, count);
}

}  // namespace kvasir::engine::fake

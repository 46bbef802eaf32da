// Random schedules of submissions, cancellations and steps over small pools and shared prefixes:
// whatever happens around it, a request answers as if it were alone, and no KV is lost.

#include <gtest/gtest.h>

#include <bit>

#include "engine/loop_harness.h"
#include "engine/test_model.h"
#include "engine/tiny_model.h"

namespace kvasir::engine {
namespace {

using fake::Expected;
using fake::Harness;
using fake::Heard;

class Schedule {
 public:
  explicit Schedule(uint64_t seed) : random_(seed), harness_(pick(1, 12)) {
    LoopOptions& options = harness_.options;
    options.chunk_tokens = pick(1, 90);
    options.step_tokens = pick(1, 90);
    options.max_sequences = pick(1, 7);
    if (chance(4))
      options.dynamic_rope_from = pick(20, 150);
    else if (chance(4))
      options.long_rope_from = pick(20, 150);
    harness_.executor.step_tokens = 90;
    harness_.executor.positions = pick(30, 400);
    for (int i = 0; i < 3; ++i) documents_.push_back(fake::random_tokens(random_, pick(1, 150)));
  }

  void run() {
    harness_.executor.on_run = [this](const Step&) { interrupt(); };
    for (int64_t left = pick(1, 25); left > 0; --left) {
      submit();
      for (int64_t steps = pick(0, 6); steps > 0; --steps) step();
      if (chance(6)) cancel();
    }
    if (chance(10)) {
      harness_.end_loop();
    } else {
      harness_.executor.on_run = nullptr;
      harness_.run();
      harness_.end_loop();
    }
    for (const RequestId id : ids_) check(id);
    harness_.expect_no_leak();
  }

 private:
  int64_t pick(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(int64_t of) { return pick(1, of) == 1; }

  Request request() {
    Request request;
    const std::vector<TokenId>& document = documents_[pick(0, 2)];
    request.prompt.assign(document.begin(), document.begin() + pick(0, std::ssize(document)));
    const std::vector<TokenId> rest = fake::random_tokens(random_, pick(1, chance(3) ? 70 : 4));
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    request.max_tokens = chance(8) ? pick(1, 200) : pick(1, 15);
    request.samples = static_cast<int>(chance(3) ? pick(1, 4) : 1);
    request.ignore_end_tokens = chance(2);
    request.sampling.temperature = chance(2) ? 0 : 0.7;
    request.sampling.seed = random_();
    if (chance(4)) request.sampling.repetition_penalty = 1.5;
    if (chance(4)) request.sampling.frequency_penalty = 0.5;
    if (chance(3)) request.stop = {"abab", "cc", "bbb"};
    if (chance(6)) request.stop_tokens = {7};
    return request;
  }

  void submit() {
    Request asked = request();
    const bool fits =
        std::ssize(asked.prompt) <= harness_.positions() &&
        asked.samples <= std::min({harness_.options.max_sequences, harness_.options.step_tokens});
    if (!fits) {
      EXPECT_FALSE(harness_.loop().submit(asked));
      return;
    }
    ids_.push_back(harness_.submit(asked));
    requests_.push_back(asked);
  }

  void step() {
    harness_.step();
    if (chance(8)) harness_.kv.check_invariants();
  }

  void cancel() {
    if (ids_.empty()) return;
    const RequestId id = ids_[pick(0, std::ssize(ids_) - 1)];
    cancelled_.insert(id);
    harness_.loop().cancel(id);
  }

  // In the middle of a step.
  void interrupt() {
    if (chance(15)) cancel();
    if (chance(100)) {
      harness_.executor.next_error = Error(ErrorCode::kInternal, "by chance");
      has_errors_ = true;
    }
  }

  void check(RequestId id) {
    const size_t index = std::ranges::find(ids_, id) - ids_.begin();
    const Heard& heard = harness_.heard(id);
    EXPECT_TRUE(heard.ended) << "request " << id;
    ASSERT_EQ(std::ssize(heard.samples), requests_[index].samples);
    for (const auto& [sample, got] : heard.samples) {
      SCOPED_TRACE("request " + std::to_string(id) + ", sample " + std::to_string(sample));
      ASSERT_TRUE(got.end);
      const Expected expected = fake::expected_answer(
          requests_[index], sample, harness_.positions(), {fake::kEnd}, harness_.rope());
      const FinishReason reason = got.end->finish_reason;
      if (reason == FinishReason::kStop || reason == FinishReason::kLength) {
        EXPECT_EQ(got.tokens, expected.tokens);
        EXPECT_EQ(got.text, expected.text);
        EXPECT_EQ(reason, expected.reason);
        continue;
      }
      if (reason == FinishReason::kError) {
        EXPECT_TRUE(has_errors_) << got.end->error->what();
      }
      ASSERT_LT(got.tokens.size(), expected.tokens.size());
      EXPECT_TRUE(std::equal(got.tokens.begin(), got.tokens.end(), expected.tokens.begin()));
    }
  }

  std::mt19937_64 random_;
  Harness harness_;
  std::vector<std::vector<TokenId>> documents_;
  std::vector<RequestId> ids_;
  std::vector<Request> requests_;
  std::set<RequestId> cancelled_;
  bool has_errors_ = false;
};

void run_schedules(uint64_t first, uint64_t count) {
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("schedule " + std::to_string(seed));
    Schedule(seed).run();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(LoopSchedules, AFewHundred) { run_schedules(1, 300); }

class FullLoopSchedules : public testing::TestWithParam<int> {};

TEST_P(FullLoopSchedules, AnswersAreThoseOfEachAlone) {
  run_schedules(1000 + 2500 * static_cast<uint64_t>(GetParam()), 2500);
}

INSTANTIATE_TEST_SUITE_P(Parts, FullLoopSchedules, testing::Range(0, 4));

// The same with a real, tiny model: in deterministic mode tokens and log-probabilities are
// bit-equal to those of the request alone, whatever runs beside it, is shared, or was set aside.
struct Answered {
  std::vector<TokenId> tokens;
  std::vector<uint32_t> logprob_bits;
  bool operator==(const Answered&) const = default;
};

class TinySchedules {
 public:
  explicit TinySchedules(DType dtype) : model_(tiny_.folder(), dtype, 12, 1) {}

  // All samples of all requests, with everything submitted at random times.
  std::vector<Answered> run(const std::vector<Request>& requests, std::mt19937_64& random,
                            bool alone) {
    LoopOptions options;
    options.chunk_tokens = alone ? 512 : 1 + static_cast<int64_t>(random() % 100);
    options.step_tokens = alone ? 512 : 8 + static_cast<int64_t>(random() % 150);
    options.max_sequences = 6;
    options.deterministic = true;
    options.end_tokens = {1};
    options.domain = ++domain_;  // no KV of an earlier loop
    options.make_detokenizer = [] { return std::make_unique<fake::FakeDetokenizer>(); };
    Loop loop(*model_.executor, *model_.kv, options);
    std::vector<std::shared_ptr<EventStream>> streams;
    for (const Request& request : requests) {
      streams.push_back(loop.submit(request).value().events);
      for (uint64_t steps = random() % 8; steps > 0 && !alone; --steps) loop.step();
    }
    while (loop.step()) {
    }
    std::vector<Answered> answers;
    for (size_t i = 0; i < requests.size(); ++i) {
      const size_t first = answers.size();
      answers.resize(first + static_cast<size_t>(requests[i].samples));
      while (const auto event = streams[i]->try_next()) {
        if (event->kind == Event::Kind::kFinished) {
          EXPECT_NE(event->finish_reason, FinishReason::kError) << event->error->what();
        }
        if (event->kind != Event::Kind::kToken) continue;
        Answered& answer = answers[first + static_cast<size_t>(event->sample)];
        answer.tokens.push_back(event->token);
        answer.logprob_bits.push_back(std::bit_cast<uint32_t>(event->logprob->logprob));
      }
      EXPECT_TRUE(streams[i]->ended());
    }
    model_.kv->check_invariants();
    return answers;
  }

  void check(uint64_t seed) {
    SCOPED_TRACE("schedule " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto tokens = [&](uint64_t count) {
      std::vector<TokenId> list(count);
      for (TokenId& token : list) token = static_cast<TokenId>(2 + random() % 94);
      return list;
    };
    const std::vector<TokenId> document = tokens(1 + random() % 200);
    std::vector<Request> requests(2 + random() % 5);
    for (Request& request : requests) {
      request.prompt.assign(document.begin(),
                            document.begin() + static_cast<int64_t>(random() % document.size()));
      const std::vector<TokenId> rest = tokens(1 + random() % 80);
      request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
      request.max_tokens = 1 + static_cast<int64_t>(random() % 40);
      request.samples = 1 + static_cast<int>(random() % 3);
      request.sampling.temperature = 0.8;
      request.sampling.seed = random();
      request.top_logprobs = 0;
    }
    const std::vector<Answered> together = run(requests, random, false);
    size_t next = 0;
    for (const Request& request : requests)
      for (const Answered& alone : run({request}, random, true)) {
        EXPECT_EQ(together[next].tokens, alone.tokens);
        EXPECT_EQ(together[next].logprob_bits, alone.logprob_bits);
        ++next;
      }
  }

 private:
  TinyModel tiny_;
  TestModel model_;
  kv::Domain domain_ = 0;
};

TEST(LoopSchedules, TinyModelAloneAndTogether) {
  TinySchedules schedules(DType::kF32);
  for (uint64_t seed = 1; seed <= 5; ++seed) schedules.check(seed);
}

TEST(FullLoopSchedulesTiny, BatchedIsAloneInF32) {
  TinySchedules schedules(DType::kF32);
  for (uint64_t seed = 100; seed < 200 && !HasFailure(); ++seed) schedules.check(seed);
}

TEST(FullLoopSchedulesTiny, BatchedIsAloneInBf16) {
  TinySchedules schedules(DType::kBF16);
  for (uint64_t seed = 200; seed < 300 && !HasFailure(); ++seed) schedules.check(seed);
}

}  // namespace
}  // namespace kvasir::engine

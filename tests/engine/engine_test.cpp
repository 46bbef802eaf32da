// The public API on a tiny model: loading, answers, cancellation, scores, refusals.

#include "kvasir/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "engine/test_model.h"
#include "engine/tiny_model.h"

namespace kvasir::engine {
namespace {

using Clock = std::chrono::steady_clock;

EngineOptions options_for(const TinyModel& model) {
  return {.model = model.folder(),
          .device = "cpu",
          .dtype = "f32",
          .threads = 2,
          .chunk = 100,
          .max_sequences = 8};
}

Request make_request(int64_t length, int64_t max_tokens, uint32_t seed = 1) {
  std::mt19937 random(seed);
  Request request;
  for (int64_t i = 0; i < length; ++i)
    request.prompt.push_back(static_cast<TokenId>(2 + random() % 94));
  request.max_tokens = max_tokens;
  request.ignore_end_tokens = true;
  return request;
}

struct Heard {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<Event> ends;
  bool progressed = false;
};

Heard listen(Answer& answer, int samples = 1) {
  Heard heard;
  heard.tokens.resize(samples);
  for (Event event; answer.next(event);) {
    heard.progressed |= event.kind == Event::Kind::kProgress;
    if (event.kind == Event::Kind::kToken) heard.tokens[event.sample].push_back(event.token);
    if (event.kind == Event::Kind::kFinished) heard.ends.push_back(event);
  }
  return heard;
}

std::vector<TokenId> greedy(TestModel& model, std::vector<TokenId> tokens, int64_t count) {
  const auto sequence = model.open();
  std::vector<TokenId> answer;
  std::vector<float> logits = model.run(sequence, tokens);
  for (;;) {
    const auto row = std::span(logits).last(TinyModel::kVocab);
    answer.push_back(static_cast<TokenId>(std::ranges::max_element(row) - row.begin()));
    if (std::ssize(answer) == count) break;
    logits = model.run(sequence, std::span(answer).last(1));
  }
  model.kv->release(sequence, false);
  return answer;
}

TEST(Engine, LoadsAndTells) {
  const TinyModel tiny;
  int64_t done = 0, total = 0;
  EngineOptions options = options_for(tiny);
  options.on_load_progress = [&](int64_t now, int64_t all) {
    EXPECT_GE(now, done);
    done = now;
    total = all;
  };
  const auto engine = Engine::load(options);
  EXPECT_GT(total, 0);
  EXPECT_EQ(done, total);
  const ModelInfo& info = engine->info();
  EXPECT_EQ(info.architecture, "LlamaForCausalLM");
  EXPECT_EQ(info.layers, 2);
  EXPECT_EQ(info.hidden_size, 64);
  EXPECT_EQ(info.vocab_size, 96);
  EXPECT_EQ(info.max_positions, 1024);
  EXPECT_EQ(info.dtype, "f32");
  EXPECT_EQ(info.threads, 2);
  EXPECT_EQ(info.end_tokens, (std::vector<TokenId>{1}));
  EXPECT_EQ(info.begin_token, 0);
  // K and V of 2 layers, 2 heads, 16 wide, in f32.
  EXPECT_EQ(info.kv_bytes_per_token, 2 * 2 * 2 * 16 * 4);
  EXPECT_GT(info.load_seconds, 0);
  const ModelInfo before = inspect(options);
  EXPECT_EQ(before.parameters, info.parameters);
  EXPECT_EQ(before.plan.total(), info.plan.total());
}

TEST(Engine, AnswersAreThoseOfTheModel) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  TestModel model(tiny.folder(), DType::kF32);
  std::vector<Request> requests;
  std::vector<Answer> answers;
  for (const int64_t length : {1, 5, 64, 250, 300}) {
    requests.push_back(make_request(length, 20, static_cast<uint32_t>(length)));
    answers.push_back(engine->submit(requests.back()));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const Heard heard = listen(answers[i]);
    EXPECT_EQ(heard.tokens[0], greedy(model, requests[i].prompt, 20));
    EXPECT_TRUE(heard.progressed);
    ASSERT_EQ(heard.ends.size(), 1u);
    const Event& end = heard.ends[0];
    EXPECT_EQ(end.finish_reason, FinishReason::kLength);
    EXPECT_EQ(end.usage.prompt_tokens, std::ssize(requests[i].prompt));
    EXPECT_EQ(end.usage.completion_tokens, 20);
    EXPECT_GT(end.timing.ttft_seconds, 0);
    EXPECT_GT(end.timing.decode_tokens_per_second, 0);
    EXPECT_GE(end.attention.computed_fraction, 1) << "dense, and masked parts of tiles count";
    EXPECT_LT(end.attention.computed_fraction, 200);
    EXPECT_GE(end.attention.decode_fraction, 1);
  }
}

TEST(Engine, SeveralSamples) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  Request request = make_request(120, 15);
  request.samples = 4;
  request.sampling = {.temperature = 1, .seed = 3};
  Answer first = engine->submit(request), second = engine->submit(request);
  const Heard a = listen(first, 4), b = listen(second, 4);
  EXPECT_EQ(a.ends.size(), 4u);
  EXPECT_EQ(a.tokens, b.tokens) << "one seed, one answer";
  EXPECT_NE(a.tokens[0], a.tokens[1]);
  EXPECT_EQ(b.ends[0].usage.cached_tokens, 119);
}

TEST(Engine, WaitingWithATimeout) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  Answer answer = engine->submit(make_request(10, 3));
  int events = 0;
  for (std::optional<Event> event; answer.next(event, 10000);) events += event.has_value();
  EXPECT_EQ(events, 2 + 3 + 1) << "progress at 0 and 10, three tokens, the end";
  Event event;
  EXPECT_FALSE(answer.next(event));
}

// One step computes the whole prompt, for seconds.
TEST(Engine, CancelsALongPrefillWithinASecond) {
  const TinyModel tiny(16, 16384);
  EngineOptions options = options_for(tiny);
  options.chunk = 16384;
  const auto engine = Engine::load(options);
  Answer answer = engine->submit(make_request(16384, 5));
  Event event;
  ASSERT_TRUE(answer.next(event));  // the step has begun
  ASSERT_EQ(event.kind, Event::Kind::kProgress);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto start = Clock::now();
  answer.cancel();
  const Heard heard = listen(answer);
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 1);
  ASSERT_EQ(heard.ends.size(), 1u);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::kCancelled);
  EXPECT_FALSE(heard.progressed);
  // The engine goes on.
  Answer next = engine->submit(make_request(10, 2));
  EXPECT_EQ(listen(next).ends[0].finish_reason, FinishReason::kLength);
}

TEST(Engine, DestroyedAnswersAreCancelled) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  {
    Answer dropped = engine->submit(make_request(100, 900));
  }
  Answer replaced = engine->submit(make_request(100, 900));
  replaced = engine->submit(make_request(50, 3));
  EXPECT_EQ(listen(replaced).tokens[0].size(), 3u);
  // Nothing runs any more, or this would throw.
  engine->score(make_request(20, 1).prompt, {});
}

TEST(Engine, AnswersMayOutliveTheEngine) {
  const TinyModel tiny;
  auto engine = Engine::load(options_for(tiny));
  Answer answer = engine->submit(make_request(100, 900));
  engine.reset();
  const Heard heard = listen(answer);
  ASSERT_EQ(heard.ends.size(), 1u);
  EXPECT_EQ(heard.ends[0].finish_reason, FinishReason::kCancelled);
  answer.cancel();
}

TEST(Engine, ScoresAreThoseOfTheSteps) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  TestModel model(tiny.folder(), DType::kF32);
  const std::vector<TokenId> text = make_request(300, 1).prompt;
  for (const int64_t context : {0, 64, 100}) {
    const int64_t window = context == 0 ? 300 : context;
    double expected = 0;
    int64_t scored = 0;
    for (int64_t start = 0; start < 300; start += window) {
      const auto part = std::span(text).subspan(start, std::min(window, 300 - start));
      const auto sequence = model.open();
      const std::vector<float> logits = model.run(sequence, part);
      model.kv->release(sequence, false);
      for (size_t i = 0; i + 1 < part.size(); ++i, ++scored) {
        const auto row = std::span(logits).subspan(i * TinyModel::kVocab, TinyModel::kVocab);
        double sum = 0;
        for (const float logit : row) sum += std::exp(double(logit));
        expected += std::log(sum) - row[part[i + 1]];
      }
    }
    int64_t rows = 0;
    Engine::ScoreOptions options{.context = context, .stages = {}, .against = StageChoice{}};
    options.on_logits = [&](std::span<const float> row) {
      EXPECT_EQ(std::ssize(row), TinyModel::kVocab);
      ++rows;
    };
    const Score score = engine->score(text, options);
    EXPECT_EQ(score.tokens, scored);
    EXPECT_EQ(rows, 300);
    EXPECT_NEAR(score.nll_sum, expected, 1e-3) << "of about " << expected;
    EXPECT_NEAR(*score.kl_sum, 0, 1e-6) << "against itself";
  }
}

TEST(Engine, ScoresAndAnswersTakeTurns) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  Answer running = engine->submit(make_request(100, 900));
  try {
    engine->score(make_request(20, 1).prompt, {});
    FAIL() << "an answer is running";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
  running.cancel();
  const Score score = engine->score(make_request(20, 1).prompt, {});
  EXPECT_EQ(score.tokens, 19);
  Answer next = engine->submit(make_request(10, 2));
  EXPECT_EQ(listen(next).ends[0].finish_reason, FinishReason::kLength);
}

template <class Function>
void expect_error(ErrorCode code, const char* part, Function function) {
  try {
    function();
    ADD_FAILURE() << "expected an error with \"" << part << '"';
  } catch (const Error& error) {
    EXPECT_EQ(error_code_name(error.code()), error_code_name(code)) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(Engine, RefusalsOfLoading) {
  const TinyModel tiny;
  const auto with = [&](auto change) {
    EngineOptions options = options_for(tiny);
    change(options);
    return options;
  };
  using O = EngineOptions;
  const struct {
    ErrorCode code;
    const char* part;
    EngineOptions options;
  } cases[] = {
      {ErrorCode::kNotFound, "model folder", with([](O& o) { o.model = "/no/such/folder"; })},
      {ErrorCode::kInvalidArgument, "found \"cuda:x\"", with([](O& o) { o.device = "cuda:x"; })},
      {ErrorCode::kInvalidArgument, "--gpu-memory", with([](O& o) { o.gpu_memory = 0; })},
      {ErrorCode::kInvalidArgument, "found \"tpu\"", with([](O& o) { o.device = "tpu"; })},
      {ErrorCode::kInvalidArgument, "found \"int3\"", with([](O& o) { o.dtype = "int3"; })},
      {ErrorCode::kInvalidArgument, "--chunk", with([](O& o) { o.chunk = -1; })},
      {ErrorCode::kInvalidArgument, "--max-sequences", with([](O& o) { o.max_sequences = 0; })},
      {ErrorCode::kInvalidArgument, "--threads", with([](O& o) { o.threads = -1; })},
      {ErrorCode::kResourceExhausted, "lower --context",
       with([](O& o) { o.context = int64_t{1} << 32; })},
  };
  for (const auto& each : cases) {
    expect_error(each.code, each.part, [&] { Engine::load(each.options); });
    expect_error(each.code, each.part, [&] { inspect(each.options); });
  }
}

TEST(Engine, RefusalsOfRequests) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  expect_error(ErrorCode::kResourceExhausted, "1024 positions, found 1025",
               [&] { engine->submit(make_request(1025, 1)); });
  expect_error(ErrorCode::kInvalidArgument, "prompt", [&] { engine->submit(make_request(0, 1)); });
  expect_error(ErrorCode::kInvalidArgument, "from 0 to 95, found 96", [&] {
    Request request = make_request(5, 1);
    request.prompt[3] = 96;
    engine->submit(request);
  });
  expect_error(ErrorCode::kInvalidArgument, "temperature", [&] {
    Request request = make_request(5, 1);
    request.sampling.temperature = NAN;
    engine->submit(request);
  });
  expect_error(ErrorCode::kInvalidArgument, "at least 2 tokens",
               [&] { engine->score(std::vector<TokenId>{3}, {}); });
  expect_error(ErrorCode::kInvalidArgument, "token 1",
               [&] { engine->score(std::vector<TokenId>{3, 96}, {}); });
  expect_error(ErrorCode::kNotFound, "tokenizer.json", [&] { engine->tokenize("x"); });
  expect_error(ErrorCode::kNotFound, "", [&] {
    const ChatMessage message{"user", "x"};
    engine->render_chat({&message, 1}, true);
  });
}

TEST(EngineThread, ManyThreadsSubmit) {
  const TinyModel tiny;
  const auto engine = Engine::load(options_for(tiny));
  std::vector<std::thread> threads;
  for (uint32_t id = 0; id < 3; ++id)
    threads.emplace_back([&, id] {
      for (uint32_t i = 0; i < 4; ++i) {
        Answer answer = engine->submit(make_request(20 + 10 * id, 5, id));
        if (i == 2) answer.cancel();
        const Heard heard = listen(answer);
        ASSERT_EQ(heard.ends.size(), 1u);
        EXPECT_NE(heard.ends[0].finish_reason, FinishReason::kError);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(EngineThread, DestroyedWhileAnswersAreCancelled) {
  const TinyModel tiny;
  for (int round = 0; round < 10; ++round) {
    auto engine = Engine::load(options_for(tiny));
    std::vector<Answer> answers;
    for (uint32_t i = 0; i < 4; ++i) answers.push_back(engine->submit(make_request(50, 900, i)));
    std::thread canceller([&] {
      for (Answer& answer : answers) answer.cancel();
    });
    engine.reset();
    canceller.join();
    for (Answer& answer : answers)
      EXPECT_EQ(listen(answer).ends[0].finish_reason, FinishReason::kCancelled);
  }
}

}  // namespace
}  // namespace kvasir::engine

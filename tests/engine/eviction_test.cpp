// Eviction through the engine loop on a tiny model: what answers equal, what later turns and other
// requests take over, what memory it takes, what is refused.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/fake_model.h"
#include "engine/loop.h"
#include "engine/test_model.h"
#include "engine/tiny_model.h"
#include "prefill/a_shape.h"

namespace kvasir::engine {
namespace {

struct Outcome {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  Event end;
};

std::vector<TokenId> text(int64_t count, TokenId first = 0) {
  std::vector<TokenId> tokens{first};
  for (int64_t i = 1; i < count; ++i) tokens.push_back(static_cast<TokenId>(2 + i * i * 7 % 93));
  return tokens;
}

const MethodChoice kPlain{"plain", {}};
const MethodChoice kStreaming{"streamingllm", {{"init", "5"}, {"local", "40"}}};
const MethodChoice kSnap{"snapkv", {{"capacity", "60"}, {"window", "16"}}};
const MethodChoice kPyramid{"pyramidkv", {{"capacity", "60"}, {"window", "16"}, {"beta", "4"}}};
const MethodChoice kAll[] = {kStreaming, kSnap, kPyramid};

class Eviction : public testing::Test {
 protected:
  void load(int64_t blocks = 64, int64_t chunk = 100) {
    loop_.reset();
    model_ = std::make_unique<TestModel>(tiny_.folder(), DType::kF32, blocks);
    LoopOptions options;
    options.chunk_tokens = chunk;
    options.step_tokens = chunk + 8;
    options.max_sequences = 8;
    options.make_detokenizer = [] { return std::make_unique<fake::FakeDetokenizer>(); };
    loop_ = std::make_unique<Loop>(*model_->executor, *model_->kv, options);
  }
  Request request(const MethodChoice& compress, std::vector<TokenId> prompt,
                  int64_t max_tokens = 12) const {
    Request request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.ignore_end_tokens = true;
    request.top_logprobs = 0;
    request.stages.compress = compress;
    return request;
  }
  std::vector<Outcome> run_all(const std::vector<Request>& requests) {
    std::vector<Submission> submissions;
    for (const Request& each : requests) submissions.push_back(loop_->submit(each).value());
    while (loop_->step()) model_->kv->check_invariants();
    std::vector<Outcome> outcomes;
    for (const Submission& submission : submissions) {
      Outcome outcome;
      while (const auto event = submission.events->try_next()) {
        if (event->kind == Event::Kind::kToken && event->sample == 0) {
          outcome.tokens.push_back(event->token);
          outcome.logprobs.push_back(event->logprob->logprob);
        }
        if (event->kind != Event::Kind::kFinished) continue;
        EXPECT_EQ(event->finish_reason, FinishReason::kLength)
            << (event->error ? event->error->what() : "");
        outcome.end = *event;
      }
      outcomes.push_back(std::move(outcome));
    }
    return outcomes;
  }
  Outcome run(const Request& request) { return run_all({request})[0]; }

  TinyModel tiny_{4};
  std::unique_ptr<TestModel> model_;
  std::unique_ptr<Loop> loop_;
};

TEST_F(Eviction, CapacityForEverythingIsDense) {
  load();
  const Outcome dense = run(request(kPlain, text(150)));
  for (const MethodChoice& choice :
       {MethodChoice{"streamingllm", {{"init", "10"}, {"local", "140"}}},
        MethodChoice{"snapkv", {{"capacity", "150"}}},
        MethodChoice{"pyramidkv", {{"capacity", "150"}}}}) {
    load();
    const Outcome outcome = run(request(choice, text(150)));
    EXPECT_EQ(outcome.logprobs, dense.logprobs) << choice.name;
    EXPECT_EQ(outcome.tokens, dense.tokens) << choice.name;
    EXPECT_EQ(outcome.end.attention.kept_fraction, 1) << choice.name;
    EXPECT_EQ(outcome.end.attention.compress, choice.name);
  }
}

// A mask over whole KV that lets through what has stayed.
TEST_F(Eviction, AnswersAreThoseOfAMaskOverWholeKv) {
  load();
  const std::vector<TokenId> prompt = text(230);
  const Outcome outcome = run(request(kStreaming, prompt));
  TestModel whole(tiny_.folder(), DType::kF32);
  const kv::SequenceId sequence = whole.open();
  std::vector<float> logits = whole.run(sequence, prompt);
  for (size_t i = 0; i < outcome.tokens.size(); ++i) {
    const auto row = std::span(logits).last(TinyModel::kVocab);
    EXPECT_EQ(std::ranges::max_element(row) - row.begin(), outcome.tokens[i]) << i;
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit));
    EXPECT_NEAR(row[static_cast<size_t>(outcome.tokens[i])] - std::log(sum), outcome.logprobs[i],
                1e-3)
        << i;
    const int64_t position = whole.kv->length(sequence);
    whole.kv->reserve(sequence, position + 1).value();
    const auto planner =
        prefill::make_a_shape({"a_shape", {{"init", "5"}, {"local", std::to_string(41 + i)}}});
    StepSpan span{.tokens = std::span(outcome.tokens).subspan(i, 1),
                  .first_position = position,
                  .page_tables = {},
                  .rope_length = position + 1,
                  .stored = {},
                  .kept = {},
                  .kept_tables = {},
                  .planner = planner.get(),
                  .prompt_length = position + 1};
    for (int layer = 0; layer < 4; ++layer)
      span.page_tables.push_back(whole.kv->page_table(sequence, layer).data());
    whole.executor->run({.spans = {span}, .cancel = nullptr}).value();
    whole.kv->commit(sequence, span.tokens);
    const auto next = whole.executor->logits(0);
    logits.assign(next.begin(), next.end());
  }
}

TEST_F(Eviction, ChunksMakeNoDifference) {
  for (const MethodChoice& choice : kAll) {
    load(64, 400);
    const Outcome whole = run(request(choice, text(330)));
    EXPECT_LT(whole.end.attention.kept_fraction, 0.25) << choice.name;
    EXPECT_LT(whole.end.attention.decode_fraction, 0.6) << choice.name;
    for (const int64_t chunk : {17, 64, 100, 329}) {
      load(64, chunk);
      const Outcome cut = run(request(choice, text(330)));
      EXPECT_EQ(cut.tokens, whole.tokens) << choice.name << " in chunks of " << chunk;
      for (size_t i = 0; i < cut.logprobs.size(); ++i)
        EXPECT_NEAR(cut.logprobs[i], whole.logprobs[i], 1e-3) << choice.name << " " << chunk;
    }
  }
}

TEST_F(Eviction, MemoryShrinks) {
  load();
  const auto bytes = [&](const MethodChoice& choice) {
    return run(request(choice, text(640), 1)).end.attention.kv_bytes;
  };
  const int64_t page = model_->kv->geometry().page_bytes();
  EXPECT_EQ(bytes(kPlain), 10 * 4 * page);
  EXPECT_EQ(bytes(kStreaming), 4 * page);
  EXPECT_EQ(bytes(kSnap), 4 * page);
  // 16 + 77, 55, 33 and 11 entries.
  EXPECT_EQ(bytes(kPyramid), (2 + 2 + 1 + 1) * page);
}

TEST_F(Eviction, LaterTurnsGoOnFromWhatIsLeft) {
  for (const MethodChoice& choice : kAll) {
    load();
    Request turn = request(choice, text(300));
    const Outcome first = run(turn);
    EXPECT_EQ(first.end.usage.cached_tokens, 0);
    turn.prompt.insert(turn.prompt.end(), first.tokens.begin(), first.tokens.end());
    turn.prompt.insert(turn.prompt.end(), 20, 7);
    const Outcome second = run(turn);
    // All but the answer's last token, whose KV nobody needed.
    EXPECT_EQ(second.end.usage.cached_tokens, 311) << choice.name;
    EXPECT_LT(second.end.attention.kept_fraction, 0.3) << choice.name;
    // Once more from the same KV.
    const Outcome again = run(turn);
    EXPECT_EQ(again.end.usage.cached_tokens, 311) << choice.name;
    EXPECT_EQ(again.logprobs, second.logprobs) << choice.name;
  }
}

TEST_F(Eviction, RequestsShareAContextThatWasReadAlone) {
  for (const MethodChoice& choice : kAll) {
    load();
    const Outcome context = run(request(choice, text(300), 0));
    EXPECT_EQ(context.end.usage.completion_tokens, 0);
    EXPECT_GT(context.end.attention.kv_bytes, 0);
    std::vector<Request> questions;
    for (const TokenId letter : {11, 22, 33}) {
      questions.push_back(request(choice, text(300)));
      questions.back().prompt.insert(questions.back().prompt.end(), 18, letter);
      questions.back().samples = 2;
    }
    const std::vector<Outcome> together = run_all(questions);
    std::ranges::reverse(questions);
    for (size_t i = 0; i < questions.size(); ++i) {
      const Outcome alone = run(questions[i]);
      const Outcome& beside = together[questions.size() - 1 - i];
      EXPECT_EQ(alone.end.usage.cached_tokens, 300) << choice.name;
      EXPECT_EQ(beside.end.usage.cached_tokens, 300) << choice.name;
      EXPECT_EQ(alone.tokens, beside.tokens) << choice.name;
    }
    EXPECT_EQ(model_->kv->stats().sequences, 0);
    EXPECT_EQ(model_->kv->stats().used_blocks, 0);
    model_->kv->clear_cache();
    EXPECT_EQ(model_->kv->stats().free_blocks, model_->kv->stats().total_blocks);
  }
}

TEST_F(Eviction, KeptKvGivesWayUnderPressure) {
  load(8);
  run(request(kSnap, text(300)));
  const Outcome other = run(request(kPlain, text(500, 1)));
  EXPECT_EQ(other.tokens.size(), 12u);
  std::vector<TokenId> longer = text(300);
  longer.insert(longer.end(), 30, 7);
  EXPECT_LT(run(request(kSnap, longer)).end.usage.cached_tokens, 300);
}

TEST_F(Eviction, Refusals) {
  load(4, 20);
  const auto refusal = [&](const MethodChoice& choice, int64_t size) {
    const auto submitted = loop_->submit(request(choice, text(size)));
    return submitted.ok() ? std::string() : std::string(submitted.error().what());
  };
  EXPECT_NE(refusal({"snapkv", {{"window", "64"}}}, 100).find("raise --chunk or lower the window"),
            std::string::npos);
  EXPECT_NE(refusal(kStreaming, 250).find("together with what --compress leaves"),
            std::string::npos);
  EXPECT_NE(refusal({"snapkv", {{"capacity", "10"}}}, 100).find("a capacity above the window"),
            std::string::npos);
  EXPECT_NE(refusal({"snapkv", {{"kernel", "4"}}}, 100).find("an odd number"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::engine

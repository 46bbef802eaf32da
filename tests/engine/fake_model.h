#pragma once
// A model made of hashes, and what a request to it must answer. The KV of a position is a hash of
// all tokens up to it (and of the rotary lengths they were written under), logits are a function of
// the last hash. The executor reads the prefix through the page tables and checks all of it on
// every step, so that KV of another prefix, an overwritten page or a missed position shows.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/answer_text.h"
#include "engine/executor.h"
#include "engine/sampler.h"
#include "kv/kv_manager.h"

namespace kvasir::engine::fake {

inline constexpr int kLayers = 2;
inline constexpr int64_t kVocab = 40;
inline constexpr TokenId kEnd = 1;
inline constexpr kv::KvGeometry kGeometry{
    .layers = kLayers, .dtype = DType::kBF16, .kv_heads = 1, .head_dim = 4};  // rows of 8 bytes

inline uint64_t scramble(uint64_t value) {
  value = (value ^ (value >> 31)) * 0x7fb5d329728ea185ull;
  value = (value ^ (value >> 27)) * 0x81dadef4bc2dd44dull;
  return value ^ (value >> 33);
}

inline constexpr uint64_t kStart = 0x1234567;
// `rope_length`: 0 where rotary scaling does not depend on the length.
inline uint64_t next_history(uint64_t history, TokenId token, int64_t rope_length) {
  return scramble(history * 3 + static_cast<uint32_t>(token) + 1 +
                  static_cast<uint64_t>(rope_length) * 0x100000001ull);
}

// What a token is rotated under, for a sequence of `length`: 0 up to where the scaling sets in.
struct Rope {
  int64_t dynamic_from = 0, long_from = 0;  // LoopOptions' dynamic_rope_from and long_rope_from
  int64_t of(int64_t length) const {
    if (long_from > 0 && length > long_from) return long_from;
    return dynamic_from > 0 && length > dynamic_from ? length : 0;
  }
};

inline std::vector<float> logits_after(uint64_t history) {
  std::vector<float> logits(kVocab);
  for (int64_t i = 0; i < kVocab; ++i)
    logits[i] = static_cast<float>(scramble(history + 77 * (i + 1)) % 6000) / 1000;
  return logits;
}

class FakeExecutor final : public Executor {
 public:
  explicit FakeExecutor(const kv::KvManager& kv) : pages_(kv.page_pool()) {}

  int64_t vocab_size() const override { return kVocab; }
  int64_t max_positions() const override { return positions; }
  int64_t max_step_tokens() const override { return step_tokens; }
  bool is_on_gpu() const override { return on_gpu; }

  Result<StepResult> run(const Step& step) override {
    ++steps;
    last = step.spans;
    if (const auto hook = on_run) hook(step);  // which may take itself away
    if (next_error) {
      scribble(step);
      return *std::exchange(next_error, std::nullopt);
    }
    if (throws) {
      throws = false;
      throw std::runtime_error("the executor has thrown");
    }
    StepResult result;
    logits_.clear();
    int64_t rows = 0;
    for (const StepSpan& span : step.spans) {
      rows += std::ssize(span.tokens);
      result.spans.push_back(run(span));
    }
    EXPECT_LE(rows, step_tokens);
    tokens_run += rows;
    // Too late to be right, as if a tile had been left out.
    if (step.cancel->cancelled()) {
      scribble(step);
      return Error(ErrorCode::kCancelled, "the step was cancelled");
    }
    return result;
  }

  std::vector<Result<SampleResult>> sample(std::span<const Draw> draws) override {
    if (std::exchange(throws_in_sample, false))
      throw std::runtime_error("the executor has thrown while sampling");
    draws_of_step.push_back(std::ssize(draws));
    std::vector<Result<SampleResult>> results;
    for (const Draw& draw : draws) {
      results.push_back(draw.sampler->sample(logits(draw.span), draw.position, draw.top));
    }
    return results;
  }
  std::span<const float> logits(size_t span) override { return logits_.at(span); }

  int64_t positions = 1000;
  int64_t step_tokens = 64;
  bool on_gpu = false;
  Rope rope;
  uint64_t scored_per_pair = 1;
  std::function<void(const Step&)> on_run;
  std::optional<Error> next_error;
  bool throws = false;
  bool throws_in_sample = false;
  std::optional<size_t> broken_span;  // whose logits are no numbers

  int64_t steps = 0;
  int64_t tokens_run = 0;
  std::vector<int64_t> draws_of_step;  // of the steps that had any
  std::vector<StepSpan> last;          // page tables and tokens may have gone

 private:
  uint64_t& row(const StepSpan& span, int layer, int plane, int64_t position) const {
    const uint32_t page = span.page_tables[layer][position / kv::kBlockTokens];
    return reinterpret_cast<uint64_t*>(
        pages_.page(page))[plane * kv::kBlockTokens + position % kv::kBlockTokens];
  }

  SpanResult run(const StepSpan& span) {
    EXPECT_EQ(span.page_tables.size(), size_t{kLayers});
    EXPECT_GE(span.tokens.size(), 1u);
    const int64_t first = span.first_position, count = std::ssize(span.tokens);
    const uint64_t before = first == 0 ? kStart : row(span, 0, 0, first - 1);
    uint64_t history = before;
    for (int64_t i = 0; i < count; ++i) {
      history = next_history(history, span.tokens[i], rope.of(span.rope_length));
      for (int layer = 0; layer < kLayers; ++layer) {
        row(span, layer, 0, first + i) = history + layer;
        row(span, layer, 1, first + i) =
            (static_cast<uint64_t>(rope.of(span.rope_length)) << 32) | span.tokens[i];
      }
    }
    check_prefix(span, first);
    SpanResult result;
    logits_.emplace_back();
    if (span.logits != StepSpan::Logits::kNone) {
      logits_.back() = logits_after(history);
      if (broken_span == logits_.size() - 1) logits_.back()[3] = NAN;
    }
    result.causal_pairs = count * first + count * (count + 1) / 2;
    result.scored_pairs = scored_per_pair * result.causal_pairs;
    return result;
  }

  // Every position before the span holds what the tokens there lead to, in every layer; after the
  // writes, so that a span that shares a page with another one shows.
  void check_prefix(const StepSpan& span, int64_t length) const {
    uint64_t history = kStart;
    for (int64_t position = 0; position < length; ++position) {
      const uint64_t written = row(span, 0, 1, position);
      history = next_history(history, static_cast<TokenId>(written & 0xffffffff),
                             static_cast<int64_t>(written >> 32));
      for (int layer = 0; layer < kLayers; ++layer)
        if (row(span, layer, 0, position) != history + layer ||
            row(span, layer, 1, position) != written) {
          ADD_FAILURE() << "position " << position << " of " << length << ", layer " << layer
                        << ", holds other KV";
          return;
        }
    }
  }

  void scribble(const Step& step) const {
    for (const StepSpan& span : step.spans)
      for (int64_t i = 0; i < std::ssize(span.tokens); ++i)
        row(span, 0, 0, span.first_position + i) = 0xdeadbeef;
  }

  kernels::PagePool pages_;
  std::vector<std::vector<float>> logits_;
};

// Few letters, so that stop strings are found often, over the ends of tokens too. Some tokens hold
// their text back until the next one, as bytes of a character do.
inline std::string token_text(TokenId token) {
  static const char* kTexts[] = {"a", "b", "ab", "ba", "c", "", "abc", "bb"};
  return kTexts[token % 8];
}

class FakeDetokenizer final : public Detokenizer {
 public:
  std::string push(TokenId token) override {
    std::string text = std::exchange(held_, {}) + token_text(token);
    if (token % 5 == 3) std::swap(text, held_);
    return text;
  }
  std::string finish() override { return std::exchange(held_, {}); }

 private:
  std::string held_;
};

// What one sample of a request must come to, computed token by token without a loop.
struct Expected {
  std::vector<TokenId> tokens;
  std::string text;
  FinishReason reason = FinishReason::kLength;
};

inline Expected expected_answer(const Request& request, int sample, int64_t positions,
                                std::vector<TokenId> end_tokens = {kEnd}, const Rope& rope = {}) {
  if (request.ignore_end_tokens) end_tokens.clear();
  end_tokens.insert(end_tokens.end(), request.stop_tokens.begin(), request.stop_tokens.end());
  Sampler sampler(request.sampling, sample, kVocab);
  sampler.add_prompt(request.prompt);
  std::vector<TokenId> sequence = request.prompt;
  int64_t length = std::ssize(sequence);
  const auto whole_history = [&] {
    uint64_t history = kStart;
    for (const TokenId token : sequence) history = next_history(history, token, rope.of(length));
    return history;
  };
  uint64_t history = whole_history();
  Expected expected;
  std::string all;
  FakeDetokenizer detokenizer;
  // Cuts the text at the first stop string that is complete.
  size_t end = 0;
  const auto find_stop = [&] {
    for (; end <= all.size(); ++end)
      for (size_t first = 0; first < end && !request.stop.empty(); ++first)
        if (std::ranges::count(request.stop, all.substr(first, end - first))) {
          all.resize(first);
          return true;
        }
    return false;
  };
  for (;;) {
    const TokenId token = sampler.sample(logits_after(history), length).value().token;
    sampler.add_answer(token);
    expected.tokens.push_back(token);
    ++length;
    if (std::ranges::count(end_tokens, token)) {
      expected.reason = FinishReason::kStop;
      break;
    }
    all += detokenizer.push(token);
    if (find_stop()) {
      expected.text = all;
      expected.reason = FinishReason::kStop;
      return expected;
    }
    if (std::ssize(expected.tokens) >= request.max_tokens || length > positions) break;
    sequence.push_back(token);
    history = length - 1 == rope.long_from ? whole_history()
                                           : next_history(history, token, rope.of(length));
  }
  all += detokenizer.finish();
  if (find_stop()) expected.reason = FinishReason::kStop;
  expected.text = all;
  return expected;
}

}  // namespace kvasir::engine::fake

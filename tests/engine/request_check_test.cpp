// Every refusal: its code, its place and one sentence with what was expected and found.

#include "engine/request_check.h"

#include <gtest/gtest.h>

#include <functional>

namespace kvasir::engine {
namespace {

constexpr RequestLimits kLimits{
    .vocab_size = 100, .max_positions = 50, .pool_positions = 128, .max_sequences = 4};

Request good() {
  Request request;
  request.prompt = {1, 2, 99};
  return request;
}

struct Refusal {
  const char* what;  // of the error
  std::function<void(Request&)> change;
  ErrorCode code = ErrorCode::kInvalidArgument;
};

TEST(RequestCheck, GoodOnesPass) {
  EXPECT_TRUE(check_request(good(), kLimits).ok());
  Request request = good();
  request.prompt.assign(50, 0);
  request.samples = 4;
  request.max_tokens = int64_t{1} << 60;
  request.top_logprobs = 1000;
  request.stop = {"x", "\xc3\xa9"};
  request.stop_tokens = {0, 99};
  request.sampling = {.temperature = 1, .top_k = 5};
  EXPECT_TRUE(check_request(request, kLimits).ok());
}

TEST(RequestCheck, Refusals) {
  const Refusal refusals[] = {
      {"prompt: expected at least one token, found none; start with the model's begin token",
       [](Request& r) { r.prompt.clear(); }},
      {"prompt: expected at most the model's 50 positions, found 51 tokens; shorten the prompt",
       [](Request& r) { r.prompt.assign(51, 1); }, ErrorCode::kResourceExhausted},
      {"prompt: token 1: expected an id from 0 to 99, found 100; is this text tokenized for "
       "another "
       "model?",
       [](Request& r) { r.prompt[1] = 100; }},
      {"prompt: token 2: expected an id from 0 to 99, found -1; is this text tokenized for another "
       "model?",
       [](Request& r) { r.prompt[2] = -1; }},
      {"max_tokens: expected at least 0, found -1", [](Request& r) { r.max_tokens = -1; }},
      {"samples: expected at least 1, found 0", [](Request& r) { r.samples = 0; }},
      {"samples: expected at most 4, the sequences that run at once, found 5; ask for fewer "
       "samples "
       "or plan for more sequences",
       [](Request& r) { r.samples = 5; }, ErrorCode::kResourceExhausted},
      {"top_logprobs: expected 0 to 1000, found -1", [](Request& r) { r.top_logprobs = -1; }},
      {"top_logprobs: expected 0 to 1000, found 1001", [](Request& r) { r.top_logprobs = 1001; }},
      {"stop: expected texts of at least one character, found an empty one; leave it out",
       [](Request& r) { r.stop = {"a", ""}; }},
      {"stop: expected UTF-8, found other bytes", [](Request& r) { r.stop = {"\xc3"}; }},
      {"stop_tokens: token 0: expected an id from 0 to 99, found 300; is this text tokenized for "
       "another model?",
       [](Request& r) { r.stop_tokens = {300}; }},
      {"temperature: expected 0 (greedy) or a number above it, found -1",
       [](Request& r) { r.sampling.temperature = -1; }},
  };
  for (const Refusal& refusal : refusals) {
    Request request = good();
    refusal.change(request);
    const auto checked = check_request(request, kLimits);
    ASSERT_FALSE(checked.ok()) << refusal.what;
    EXPECT_STREQ(checked.error().what(), refusal.what);
    EXPECT_EQ(checked.error().code(), refusal.code) << refusal.what;
  }
}

TEST(RequestCheck, UnknownMethod) {
  Request request = good();
  request.stages.prefill.name = "none such";
  const auto checked = check_request(request, kLimits);
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(checked.error().context(), "--prefill");
}

TEST(RequestCheck, SmallPool) {
  RequestLimits limits = kLimits;
  limits.pool_positions = 20;
  Request request = good();
  request.prompt.assign(21, 1);
  EXPECT_STREQ(check_request(request, limits).error().what(),
               "prompt: expected at most the KV pool's 20 positions, found 21 tokens; shorten the "
               "prompt or plan for a longer context");
}

}  // namespace
}  // namespace kvasir::engine

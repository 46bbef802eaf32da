// Conversations brought to length: never too long, near what was asked, turns whole.

#include "data/task_samples.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "data/random.h"

namespace kvasir::data {
namespace {

class TaskSamplesTest : public testing::Test {
 protected:
  // Entries of a few tokens each; the estimate of a document's tokens is off by `error`.
  std::optional<Conversation> generate(const ConversationRequest& request, double error) {
    ++calls_;
    last_ = request;
    Random random({request.seed});
    Conversation conversation;
    const auto entries =
        static_cast<int64_t>(static_cast<double>(request.document_tokens) * error) / 8;
    if (entries < 2) return {};
    for (int64_t i = 0; i < entries; ++i)
      conversation.document += std::to_string(100 + random.below(900)) + ": " +
                               std::to_string(10 + random.below(90)) + ",\n";
    for (int64_t i = 0; i < request.turns; ++i)
      conversation.turns.push_back({"What is it?", std::to_string(random.below(100))});
    return conversation;
  }
  TaskSamples samples(double error) {
    return TaskSamples([this, error](const ConversationRequest& r) { return generate(r, error); },
                       encoder_, data_);
  }

  const text::Tokenizer tokenizer_ =
      text::Tokenizer::load(std::filesystem::path(KVASIR_SOURCE_DIR) /
                            "models/bootstrap-16m/tokenizer.json")
          .value();
  const ChatEncoder encoder_ = ChatEncoder::make(tokenizer_).value();
  DataRecipe data_;
  int calls_ = 0;
  ConversationRequest last_;
};

TEST_F(TaskSamplesTest, FitWhatWasAskedFor) {
  for (const double error : {0.7, 1.0, 1.3, 2.0})
    for (const int64_t most : {64, 100, 257, 1000, 4096}) {
      SCOPED_TRACE(testing::Message() << error << " " << most);
      data_.most_turns = 1000;
      const TaskSamples source = samples(error);
      const SampleRequest request{.task = "kv", .seed = 5, .most_tokens = most};
      const Sample sample = source.make(request);
      const auto size = static_cast<int64_t>(sample.tokens.size());
      EXPECT_LE(size, most);
      EXPECT_GT(size, most - 16);  // room for no further turn
      EXPECT_EQ(sample.tokens.back(), *tokenizer_.token_to_id("<|end|>"));
      const auto count = [&](const char* token) {
        return std::ranges::count(sample.tokens, *tokenizer_.token_to_id(token));
      };
      EXPECT_GE(count("<|user|>"), 1);
      EXPECT_EQ(count("<|user|>"), count("<|end|>"));
      EXPECT_EQ(source.make(request).tokens, sample.tokens);
    }
}

TEST_F(TaskSamplesTest, PassOnTheRequestAndItsLimits) {
  data_.most_turns = 3;
  data_.context_weight = 0.5;
  const Sample sample =
      samples(1.0).make({.task = "needle", .seed = 9, .most_tokens = 1000, .is_held_out = true});
  EXPECT_EQ(last_.task, "needle");
  EXPECT_EQ(last_.seed, 9u);
  EXPECT_TRUE(last_.is_held_out);
  EXPECT_EQ(last_.document_tokens, 750);
  EXPECT_EQ(std::ranges::count(sample.tokens, *tokenizer_.token_to_id("<|user|>")), 3);
  EXPECT_EQ(sample.weights.front(), 0.5f);
  EXPECT_EQ(sample.weights.back(), 1.0f);
}

TEST_F(TaskSamplesTest, AreEmptyWhereNothingFits) {
  EXPECT_TRUE(samples(1.0).make({.task = "kv", .most_tokens = 10}).tokens.empty());
  calls_ = 0;
  // A generator that always gives far too much is not asked for ever.
  EXPECT_TRUE(samples(1e4).make({.task = "kv", .most_tokens = 40}).tokens.empty());
  EXPECT_LE(calls_, 6);
}

}  // namespace
}  // namespace kvasir::data

// Samples made of a generator's conversations: never too long, turns by what there is room for.

#include "data/task_samples.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tasks/haystack.h"
#include "tasks/random.h"
#include "tasks/text_tasks.h"

namespace kvasir::data {
namespace {

// Pairs of numbers; asks for the first ones.
class Pairs final : public tasks::Generator {
 public:
  Pairs(tasks::GeneratorOptions options, int64_t beyond, std::string question)
      : options_(std::move(options)), beyond_(beyond), question_(std::move(question)) {}

  Result<tasks::Sample> sample(uint64_t seed, uint64_t index) const override {
    tasks::Random random(seed, "pairs", index);
    tasks::Sample sample{.task = "pairs"};
    for (int i = 0; i < options_.turns; ++i)
      sample.turns.push_back({.question = question_ + std::to_string(i) + "?",
                              .answers = {std::to_string(random.below(1000))}});
    int64_t tokens = options_.sample_overhead - beyond_;
    for (const tasks::Turn& turn : sample.turns)
      tokens +=
          options_.count(turn.question) + options_.count(turn.golden()) + options_.turn_overhead;
    while (true) {
      const std::string entry =
          std::to_string(random.below(1000)) + ": " + std::to_string(random.below(1000)) + ",\n";
      tokens += options_.count(entry);
      if (tokens > options_.target_tokens) break;
      sample.context += entry;
    }
    if (sample.context.empty()) return Error(ErrorCode::kResourceExhausted, "no room");
    return sample;
  }

 private:
  tasks::GeneratorOptions options_;
  int64_t beyond_;  // tokens more than the target
  std::string question_;
};

class TaskSamplesTest : public testing::Test {
 protected:
  TaskSamples samples(int64_t beyond = 0) {
    const auto make = [this, beyond](std::string_view task, tasks::GeneratorOptions options)
        -> Result<std::unique_ptr<tasks::Generator>> {
      if (task != "pairs") return Error(ErrorCode::kNotFound, "no such task");
      asked_.push_back(options);
      return std::unique_ptr<tasks::Generator>(
          std::make_unique<Pairs>(std::move(options), asked_.size() == 1 ? beyond : 0, question_));
    };
    return {make, encoder_, data_, nullptr, nullptr};
  }
  int64_t count(const Sample& sample, const char* token) const {
    return std::ranges::count(sample.tokens, *tokenizer_.token_to_id(token));
  }

  const text::Tokenizer tokenizer_ =
      text::Tokenizer::load(std::filesystem::path(KVASIR_SOURCE_DIR) /
                            "models/bootstrap-16m/tokenizer.json")
          .value();
  const ChatEncoder encoder_ = ChatEncoder::make(tokenizer_).value();
  DataRecipe data_;
  std::string question_ = "What is the value of ";
  std::vector<tasks::GeneratorOptions> asked_;
};

TEST_F(TaskSamplesTest, FitWhatWasAskedFor) {
  for (const int64_t most : {48, 100, 257, 1000, 4096}) {
    SCOPED_TRACE(most);
    const TaskSamples source = samples();
    const SampleRequest request{.task = "pairs", .seed = 5, .most_tokens = most};
    const Sample sample = source.make(request);
    const auto size = static_cast<int64_t>(sample.tokens.size());
    EXPECT_LE(size, most);
    EXPECT_GT(size, most - 14);  // room for no further entry
    const int64_t turns = std::clamp<int64_t>(most / 96, 1, 32);
    EXPECT_EQ(count(sample, "<|user|>"), turns);
    EXPECT_EQ(count(sample, "<|end|>"), turns);
    EXPECT_EQ(source.make(request).tokens, sample.tokens);
    EXPECT_EQ(sample.weights.front(), 0.05f);
    EXPECT_EQ(sample.weights.back(), 1.0f);
  }
}

TEST_F(TaskSamplesTest, KeysAndBooksAreOfTheirOwn) {
  const TaskSamples source = samples();
  source.make({.task = "pairs", .most_tokens = 100});
  source.make({.task = "pairs", .most_tokens = 100, .is_held_out = true});
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_EQ(asked_[0].key_space, tasks::KeySpace::kTraining);
  EXPECT_EQ(asked_[1].key_space, tasks::KeySpace::kEvaluation);
}

TEST_F(TaskSamplesTest, FewerTurnsWhereTheyLeaveNoRoom) {
  data_.question_fraction = 0.9;
  for (int i = 0; i < 30; ++i) question_ += "1";
  const Sample sample = samples().make({.task = "pairs", .most_tokens = 80});
  EXPECT_EQ(count(sample, "<|user|>"), 1);  // three were tried first
  EXPECT_EQ(asked_.front().turns, 3);
  EXPECT_TRUE(samples().make({.task = "pairs", .most_tokens = 40}).tokens.empty());
}

TEST_F(TaskSamplesTest, ASampleThatIsTooLongIsMadeAgainShorter) {
  const Sample sample = samples(20).make({.task = "pairs", .most_tokens = 300});
  EXPECT_EQ(asked_.size(), 2u);
  EXPECT_LE(sample.tokens.size(), 300u);
  EXPECT_GT(sample.tokens.size(), 250u);
}

TEST_F(TaskSamplesTest, UnknownTasksAreErrors) {
  EXPECT_THROW(samples().make({.task = "riddle", .most_tokens = 300}), Error);
}

// Every task of the tasks room, as a run makes them.
TEST_F(TaskSamplesTest, RealTasksFit) {
  const auto books = tasks::Haystack::made_up(1), held_out = tasks::Haystack::made_up(2);
  const TaskSamples source(tasks::make_text_task, encoder_, data_, &books, &held_out);
  for (const std::string& task : task_names())
    for (const int64_t most : {64, 300, 1500, 6000})
      for (const bool is_held_out : {false, true}) {
        SCOPED_TRACE(task + " " + std::to_string(most));
        const SampleRequest request{
            .task = task, .seed = 11, .most_tokens = most, .is_held_out = is_held_out};
        const Sample sample = source.make(request);
        if (sample.tokens.empty()) {
          EXPECT_LT(most, 300);
          continue;
        }
        const auto size = static_cast<int64_t>(sample.tokens.size());
        EXPECT_LE(size, most);
        EXPECT_GT(size, most * 85 / 100 - 40);
        EXPECT_EQ(source.make(request).tokens, sample.tokens);
        EXPECT_GT(count(sample, "<|user|>"), 0);
        if (task == "var") {
          EXPECT_EQ(static_cast<int64_t>(sample.hops.size()), count(sample, "<|end|>"));
        } else {
          EXPECT_TRUE(sample.hops.empty());
        }
        EXPECT_EQ(sample.weights.back(), 1.0f);
      }
}

}  // namespace
}  // namespace kvasir::data

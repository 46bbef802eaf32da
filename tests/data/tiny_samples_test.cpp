// Samples of the tiny family: what was asked for, never longer, sessions that the benchmark never
// has; a recipe of them needs no corpus, and its tokenizer is the words of the family.

#include "data/tiny_samples.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "data/batch_source.h"
#include "data/prepare.h"
#include "data/tiny_tokenizer.h"
#include "formats/files.h"
#include "tasks/tiny.h"
#include "text/tokenizer.h"

namespace kvasir::data {
namespace {

constexpr int32_t kBos = tasks::tiny::kBos, kEot = tasks::tiny::kEot;

DataRecipe recipe_of_data() {
  DataRecipe data;
  data.question_fraction = 0.4;
  data.answer_weight = 2;
  return data;
}

TEST(TinySamples, FitAndAreFullEnough) {
  const TinySamples source(recipe_of_data());
  for (const std::string_view task : tasks::kTinyTasks)
    for (const int64_t most : {20, 64, 100, 150, 257, 600, 1280, 5000})
      for (uint64_t seed = 0; seed < 20; ++seed) {
        SCOPED_TRACE(std::string(task) + " " + std::to_string(most) + " " + std::to_string(seed));
        const SampleRequest request{.task = task, .seed = seed, .most_tokens = most};
        const Sample sample = source.make(request);
        if (sample.tokens.empty()) {
          EXPECT_LT(most, 150);
          continue;
        }
        const auto size = static_cast<int64_t>(sample.tokens.size());
        ASSERT_LE(size, most);
        if (most <= 1280 && most >= 150) {
          EXPECT_GT(size, most / 2);
        }
        ASSERT_EQ(sample.weights.size(), sample.tokens.size());
        EXPECT_EQ(sample.tokens[0], tasks::tiny::kCtx);
        EXPECT_EQ(sample.weights[0], 0.05f);
        EXPECT_EQ(sample.tokens.back(), kEot);
        EXPECT_EQ(sample.weights.back(), 2.0f);
        const auto turns = std::ranges::count(sample.tokens, kEot);
        EXPECT_TRUE(turns <= 32 || task == "mqar");
        if (task == "hop") {
          EXPECT_EQ(static_cast<int64_t>(sample.hops.size()), turns);
          EXPECT_LE(sample.hops[0], 4);
        } else {
          EXPECT_TRUE(sample.hops.empty());
        }
        EXPECT_EQ(source.make(request).tokens, sample.tokens);
      }
}

// Weights are those of a session's parts: questions nothing, answers with their EOT all.
TEST(TinySamples, AnswersCount) {
  const TinySamples source(recipe_of_data());
  const Sample sample = source.make({.task = "kv", .seed = 3, .most_tokens = 128});
  for (size_t i = 1; i < sample.tokens.size(); ++i) {
    if (sample.tokens[i] != tasks::tiny::kQry) continue;
    const auto part = [&](size_t first, size_t last) {
      return std::vector<float>(sample.weights.begin() + static_cast<long>(first),
                                sample.weights.begin() + static_cast<long>(last));
    };
    EXPECT_EQ(part(i, i + 5), std::vector<float>(5, 0.0f));
    EXPECT_EQ(part(i + 5, i + 8), std::vector<float>(3, 2.0f));
  }
}

TEST(TinySamples, HopsAreAllDrawn) {
  const TinySamples source(recipe_of_data());
  std::set<int32_t> hops;
  for (uint64_t seed = 0; seed < 200; ++seed)
    hops.insert(source.make({.task = "hop", .seed = seed, .most_tokens = 300}).hops.at(0));
  EXPECT_EQ(hops, (std::set<int32_t>{0, 1, 2, 3, 4}));
}

// The sessions of a seed as the benchmark draws them are none of training's, whatever the seed.
TEST(TinySamples, TrainingAndEvaluationAreDifferentSessions) {
  const TinySamples source(recipe_of_data());
  const SampleRequest training{.task = "mqar", .seed = 5, .most_tokens = 200};
  SampleRequest held_out = training;
  held_out.is_held_out = true;
  EXPECT_NE(source.make(training).tokens, source.make(held_out).tokens);
  tasks::TinyOptions options;
  options.entries = 14;
  const auto ids_of = [&](uint64_t seed) {
    const auto session = tasks::make_tiny("mqar", options, seed, 0).value();
    return std::vector<int32_t>(session.context.begin() + 1, session.context.end());
  };
  const auto begins = [&](const Sample& sample, uint64_t seed) {
    const std::vector<int32_t> context = ids_of(seed);
    return std::equal(context.begin(), context.end(), sample.tokens.begin());
  };
  EXPECT_TRUE(begins(source.make(held_out), 5));
  EXPECT_FALSE(begins(source.make(training), 5));
  EXPECT_TRUE(begins(source.make(training), 5 | uint64_t{1} << 63));
}

constexpr const char* kRecipe = R"(
[model]
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 2
num_attention_heads = 1
head_dim = 32
rope_theta = 10000
[tokenizer]
kind = "tiny-v1"
[data]
mixture = { kv = 0.5, find = 0.25, hop = 0.25 }
least_sample = 64
full_fraction = 0
[[phase]]
sequence = 1000
longest_sample = 200
tokens = 20000
batch_tokens = 4000
[[phase]]
sequence = 1000
tokens = 4000
batch_tokens = 4000
[optimizer]
learning_rate = 1e-3
)";

Recipe tiny_recipe(const std::string& text = kRecipe) {
  return parse_recipe(text, "tiny.toml", "", {}).value();
}

TEST(TinyRecipe, NamesTasksOfTheFamilyAndNoBooks) {
  const Recipe recipe = tiny_recipe();
  EXPECT_TRUE(recipe.tokenizer.is_tiny);
  EXPECT_EQ(recipe.longest_sequence(), 1000);
  EXPECT_EQ(recipe.evaluation.lengths, (std::vector<int64_t>{200, 1000}));
  const auto refused = [](const char* from, const char* to) {
    std::string text = kRecipe;
    text.replace(text.find(from), std::string_view(from).size(), to);
    const auto parsed = parse_recipe(text, "tiny.toml", "", {});
    return parsed ? std::string() : std::string(parsed.error().what());
  };
  EXPECT_NE(refused("kv = 0.5", "books = 0.5").find("unknown key"), std::string::npos);
  EXPECT_NE(refused("[data]", "[data]\nmanifest = \"x\"").find("unknown key"), std::string::npos);
  EXPECT_NE(refused("tiny-v1", "tiny-v2").find("expected one of bpe, tiny-v1"), std::string::npos);
  EXPECT_NE(refused("longest_sample = 200", "longest_sample = 2000").find("from 16 to 1000"),
            std::string::npos);
}

TEST(TinyRecipe, BatchesAreSamplesAndLittleElse) {
  const Recipe recipe = tiny_recipe();
  const TinySamples samples(recipe.data);
  const Corpus none;
  const BatchSource source = BatchSource::make(recipe, none, samples, kBos).value();
  int64_t padding = 0, rows = 0, finds = 0;
  for (int64_t step = 0; step < recipe.steps(); ++step) {
    const StepPlan plan = plan_step(recipe, step);
    const Batch batch = source.batch(plan, 0, plan.sequences);
    ASSERT_EQ(batch.rows(), 4000);
    rows += batch.rows();
    for (size_t i = 0; i + 1 < batch.documents.size(); ++i) {
      const auto first = static_cast<size_t>(batch.documents[i]);
      const int32_t size = batch.documents[i + 1] - batch.documents[i];
      EXPECT_EQ(batch.tokens[first], kBos);
      if (batch.targets[first] == kBos) {
        padding += size;
        continue;
      }
      EXPECT_LE(size, plan.phase == 0 ? 200 : 1000);
      // Numbers alone: a task that has no short samples, which takes the room there is.
      finds += batch.targets[first + 1] >= tasks::tiny::kSmall;
    }
  }
  EXPECT_LT(static_cast<double>(padding), 0.1 * static_cast<double>(rows));
  EXPECT_GT(finds, 5);
}

TEST(TinyRecipe, PreparesAVocabularyAndNothingElse) {
  const formats::TemporaryFolder folder;
  ThreadPool pool(1);
  const Prepared prepared =
      prepare(tiny_recipe(), {.corpus = {}, .output = folder.path() / "out", .progress = nullptr},
              pool)
          .value();
  EXPECT_EQ(prepared.corpus.size(), 0u);
  const text::Tokenizer tokenizer =
      text::Tokenizer::load(prepared.tokenizer / "tokenizer.json").value();
  EXPECT_EQ(tokenizer.vocab_size(), 128);
  const tasks::TinySession session = tasks::make_tiny("kv", {}, 0, 0).value();
  const std::string words = tasks::tiny_words(session.context);
  const std::vector<int32_t> ids = tokenizer.encode(words, {});
  EXPECT_EQ(ids, std::vector<int32_t>(session.context.begin(), session.context.end()));
  EXPECT_EQ(tokenizer.decode(ids, {}), words);
  EXPECT_EQ(tokenizer.token_to_id(kTinyBegin), kBos);
  EXPECT_EQ(tokenizer.token_to_id(kTinyEnd), kEot);
}

}  // namespace
}  // namespace kvasir::data

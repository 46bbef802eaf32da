// Packing: every row has a document, every token of the books comes once in a round, weights are
// those of the samples, and a step's batch is the same whenever and however it is asked for.

#include "data/batch_source.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "data/random.h"
#include "data/small_corpus.h"

namespace kvasir::data {
namespace {

const FakeSamples kSamples;

void expect_well_formed(const Batch& batch, int64_t rows) {
  ASSERT_EQ(batch.rows(), rows);
  ASSERT_EQ(batch.targets.size(), batch.tokens.size());
  ASSERT_EQ(batch.weights.size(), batch.tokens.size());
  ASSERT_GE(batch.documents.size(), 2u);
  EXPECT_EQ(batch.documents.front(), 0);
  EXPECT_EQ(batch.documents.back(), rows);
  for (size_t d = 0; d + 1 < batch.documents.size(); ++d) {
    const int32_t first = batch.documents[d], end = batch.documents[d + 1];
    ASSERT_LT(first, end);
    EXPECT_EQ(batch.tokens[static_cast<size_t>(first)], kBegin);
    for (int32_t row = first + 1; row < end; ++row)
      ASSERT_EQ(batch.tokens[static_cast<size_t>(row)],
                batch.targets[static_cast<size_t>(row) - 1]);
  }
}

Batch whole_step(const BatchSource& source, int64_t step) {
  const StepPlan plan = plan_step(source.recipe(), step);
  return source.batch(plan, 0, plan.sequences);
}

TEST(StepPlan, CountsPhases) {
  Recipe recipe = small_recipe(64, 4, 3, {{"books", 1}});
  recipe.phases.push_back({.sequence = 128,
                           .tokens = 1000,
                           .batch_tokens = 256,
                           .learning_rate_scale = 0.5,
                           .mixture = {{"books", 1}}});
  EXPECT_EQ(recipe.steps(), 3 + 4);
  EXPECT_EQ(plan_step(recipe, 2).phase, 0);
  EXPECT_EQ(plan_step(recipe, 2).first, 8);
  const StepPlan plan = plan_step(recipe, 4);
  EXPECT_EQ(plan.phase, 1);
  EXPECT_EQ(plan.sequence, 128);
  EXPECT_EQ(plan.sequences, 2);
  EXPECT_EQ(plan.first, 2);
  EXPECT_EQ(plan.learning_rate_scale, 0.5);
  EXPECT_THROW(plan_step(recipe, 7), Error);
}

TEST(Share, PassesCoverEachSequenceOnce) {
  for (const int64_t processes : {1, 2, 4})
    for (const int64_t pass_tokens : {1, 64, 200, 1000, 100000}) {
      const StepPlan plan{.sequence = 64, .sequences = 12};
      std::multiset<int64_t> seen;
      for (int64_t rank = 0; rank < processes; ++rank) {
        const Share share{rank, processes, pass_tokens};
        for (int64_t pass = 0; pass < share.passes(plan); ++pass) {
          const auto [first, count] = share.pass(plan, pass);
          EXPECT_GT(count, 0);
          EXPECT_LE(count, std::max<int64_t>(1, pass_tokens / 64));
          for (int64_t i = first; i < first + count; ++i) seen.insert(i);
        }
      }
      EXPECT_EQ(seen.size(), 12u);
      EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), 12u);
    }
}

TEST(Share, RefusesWhatCannotBeSharedEvenly) {
  const Recipe recipe = small_recipe(64, 6, 3, {{"books", 1}});
  EXPECT_TRUE(check_share(recipe, {0, 3}));
  const auto refused = check_share(recipe, {0, 4});
  ASSERT_FALSE(refused);
  EXPECT_NE(std::string(refused.error().what()).find("phase[0].batch_tokens"), std::string::npos);
}

// Targets of a round of books: each token of the stream but the rest, none twice. Tokens are not
// unique, so windows are looked up by what the whole stream has at their place.
TEST(BatchSource, BooksComeOnceInARound) {
  const SmallCorpus small({700, 0, 1, 350, 999});
  const int64_t length = 64, sequences = 4;
  const int64_t tokens = 700 + 1 + 350 + 999, in_round = tokens / length;
  Recipe recipe = small_recipe(length, sequences, 1000, {{"books", 1}});
  const BatchSource source = BatchSource::make(recipe, small.corpus(), kSamples, kBegin).value();
  EXPECT_EQ(source.training_tokens(), tokens);
  for (int round = 0; round < 3; ++round) {
    std::map<int32_t, int64_t> counts;  // by letter: which text
    for (int64_t i = round * in_round; i < (round + 1) * in_round; ++i) {
      const StepPlan plan = plan_step(recipe, i / sequences);
      const Batch batch = source.batch(plan, i % sequences, 1);
      expect_well_formed(batch, length);
      for (const int32_t target : batch.targets) ++counts[target];
      for (const float weight : batch.weights) EXPECT_EQ(weight, 1);
    }
    std::map<int32_t, int64_t> all;
    for (size_t t = 0; t < small.corpus().size(); ++t) {
      std::vector<int32_t> text(static_cast<size_t>(small.corpus().tokens(t).size()));
      small.corpus().tokens(t).copy(0, text);
      for (const int32_t token : text) ++all[token];
    }
    int64_t missing = 0;
    for (const auto& [token, count] : all) {
      EXPECT_LE(counts[token], count);
      missing += count - counts[token];
    }
    EXPECT_EQ(missing, tokens - in_round * length);
  }
}

TEST(BatchSource, RoundsAreShuffledAndDiffer) {
  const SmallCorpus small({4000, 3000});
  const BatchSource source =
      BatchSource::make(small_recipe(64, 1, 1000, {{"books", 1}}), small.corpus(), kSamples, kBegin)
          .value();
  const int64_t in_round = 7000 / 64;
  std::set<std::vector<int32_t>> windows;
  for (int64_t i = 0; i < 2 * in_round; ++i) windows.insert(whole_step(source, i).targets);
  EXPECT_GT(static_cast<int64_t>(windows.size()), 2 * in_round - 3);
}

TEST(BatchSource, HeldOutTitlesNeverComeUp) {
  const SmallCorpus small({500, 500, 500});
  Recipe recipe = small_recipe(64, 4, 100, {{"books", 1}, {"kv", 1}});
  recipe.data.held_out = {"b"};
  recipe.precision.pass_tokens = 200;
  recipe.evaluation.task_tokens = 1000;
  const BatchSource source = BatchSource::make(recipe, small.corpus(), kSamples, kBegin).value();
  EXPECT_EQ(source.training_tokens(), 1000);
  std::vector<int32_t> letter(1);
  small.corpus().find("b")->copy(0, letter);
  for (int64_t step = 0; step < recipe.steps(); ++step)
    for (const int32_t target : whole_step(source, step).targets) ASSERT_NE(target, letter[0]);
  const std::vector<Batch> books = source.held_out_books(64);
  ASSERT_EQ(books.size(), 3u);
  int64_t windows = 0;
  for (const Batch& batch : books) {
    expect_well_formed(batch, batch.rows());
    EXPECT_LE(batch.rows(), 200);
    windows += static_cast<int64_t>(batch.documents.size()) - 1;
    EXPECT_GT(std::count(batch.targets.begin(), batch.targets.end(), letter[0]), 0);
  }
  EXPECT_EQ(windows, 7);
  ThreadPool pool(2);
  const std::vector<AnswerBatch> samples = source.held_out_samples("kv", 64, pool);
  int64_t documents = 0;
  for (const auto& [batch, hops] : samples) {
    expect_well_formed(batch, batch.rows());
    EXPECT_LE(batch.rows(), 200);
    EXPECT_GE(batch.targets[0], kSampleToken + 5000);
    const auto count = static_cast<int64_t>(batch.documents.size()) - 1;
    EXPECT_EQ(std::count(batch.weights.begin(), batch.weights.end(), 1.0f), 3 * count);
    EXPECT_EQ(std::count(batch.weights.begin(), batch.weights.end(), 0.0f),
              batch.rows() - 3 * count);
    EXPECT_EQ(hops, std::vector<int32_t>(static_cast<size_t>(count), 2));
    documents += count;
  }
  EXPECT_EQ(documents, 1000 / 64);
  EXPECT_EQ(source.held_out_samples("kv", 5000, pool).size(), 1u);  // one, however long
  EXPECT_THROW(source.held_out_samples("broken", 64, pool), Error);
}

TEST(BatchSource, MixesBySharesAndKeepsTheWeightsOfSamples) {
  const SmallCorpus small({5000});
  for (const double full : {0.0, 1.0, 0.5}) {
    Recipe recipe = small_recipe(512, 8, 40, {{"books", 0.3}, {"kv", 0.7}});
    recipe.data.full_fraction = full;
    const BatchSource source = BatchSource::make(recipe, small.corpus(), kSamples, kBegin).value();
    int64_t sample_rows = 0, rows = 0, answers = 0, documents = 0;
    for (int64_t step = 0; step < recipe.steps(); ++step) {
      const Batch batch = whole_step(source, step);
      expect_well_formed(batch, 8 * 512);
      for (size_t row = 0; row < batch.tokens.size(); ++row) {
        const bool is_sample = batch.targets[row] >= kSampleToken;
        sample_rows += is_sample;
        answers += is_sample && batch.weights[row] == 1;
        if (is_sample) {
          EXPECT_TRUE(batch.weights[row] == 1.0f || batch.weights[row] == 0.05f);
        } else {
          EXPECT_EQ(batch.weights[row], 1.0f);
        }
      }
      for (size_t d = 0; d + 1 < batch.documents.size(); ++d)
        documents += batch.targets[static_cast<size_t>(batch.documents[d])] >= kSampleToken;
      rows += batch.rows();
    }
    EXPECT_EQ(answers, 3 * documents);
    // A sample leaves up to 3 rows, several up to 63 more.
    const double share = static_cast<double>(sample_rows) / static_cast<double>(rows);
    EXPECT_NEAR(share, 0.7, full == 1 ? 0.01 : 0.09);
    if (full == 1) {
      EXPECT_EQ(documents, std::lround(0.7 * 8 * 40));
    } else {
      EXPECT_GT(documents, 1.2 * 0.7 * 8 * 40);
    }
  }
}

// As after --resume, on another number of processes, with other passes.
TEST(BatchSource, AStepIsTheSameHoweverItIsAskedFor) {
  const SmallCorpus small({3000, 2000});
  const Recipe recipe = small_recipe(256, 8, 10, {{"books", 1}, {"kv", 1}, {"needle", 0.5}});
  const BatchSource first = BatchSource::make(recipe, small.corpus(), kSamples, kBegin).value();
  const BatchSource second = BatchSource::make(recipe, small.corpus(), kSamples, kBegin).value();
  EXPECT_EQ(first.fingerprint(), second.fingerprint());
  for (int64_t step = recipe.steps() - 1; step >= 0; --step) {
    const StepPlan plan = plan_step(recipe, step);
    const Batch whole = whole_step(first, step);
    EXPECT_EQ(whole, whole_step(second, step));
    Batch joined;
    for (int64_t rank = 0; rank < 2; ++rank) {
      const Share share{rank, 2, 600};
      for (int64_t pass = 0; pass < share.passes(plan); ++pass) {
        const auto range = share.pass(plan, pass);
        const Batch part = second.batch(plan, range.first, range.count);
        joined.tokens.insert(joined.tokens.end(), part.tokens.begin(), part.tokens.end());
        joined.weights.insert(joined.weights.end(), part.weights.begin(), part.weights.end());
      }
    }
    EXPECT_EQ(joined.tokens, whole.tokens);
    EXPECT_EQ(joined.weights, whole.weights);
  }
}

TEST(BatchSource, FingerprintTellsRunsApart) {
  const SmallCorpus small({3000}), other({3001});
  const Recipe recipe = small_recipe(256, 8, 10, {{"books", 1}, {"kv", 1}});
  const auto fingerprint = [](const Recipe& r, const SmallCorpus& c) {
    return BatchSource::make(r, c.corpus(), kSamples, kBegin).value().fingerprint();
  };
  const std::string own = fingerprint(recipe, small);
  EXPECT_NE(fingerprint(recipe, other), own);
  Recipe changed = recipe;
  changed.seed = 4;
  EXPECT_NE(fingerprint(changed, small), own);
  changed = recipe;
  changed.phases[0].mixture["kv"] = 2;
  EXPECT_NE(fingerprint(changed, small), own);
  changed = recipe;
  changed.optimizer.learning_rate = 1;  // another rate sees the same batches
  EXPECT_EQ(fingerprint(changed, small), own);
}

TEST(BatchSource, RefusesTooLittleTextAndUnknownTitles) {
  const SmallCorpus small({100, 100});
  Recipe recipe = small_recipe(150, 1, 1, {{"books", 1}});
  EXPECT_TRUE(BatchSource::make(recipe, small.corpus(), kSamples, kBegin));
  recipe.data.held_out = {"a"};
  const auto short_one = BatchSource::make(recipe, small.corpus(), kSamples, kBegin);
  ASSERT_FALSE(short_one);
  EXPECT_NE(std::string(short_one.error().what()).find("expected at most the 100 tokens"),
            std::string::npos);
  recipe.data.held_out = {"x"};
  const auto unknown = BatchSource::make(recipe, small.corpus(), kSamples, kBegin);
  ASSERT_FALSE(unknown);
  EXPECT_NE(std::string(unknown.error().what()).find("found 'x'"), std::string::npos);
}

TEST(RandomNumbers, PermutationsAreOneToOne) {
  for (const int64_t size : {1, 2, 3, 4, 5, 16, 17, 100, 1023, 1025}) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < size; ++i) {
      const int64_t place = permuted(i, size, 42);
      EXPECT_GE(place, 0);
      EXPECT_LT(place, size);
      seen.insert(place);
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), size);
  }
}

TEST(RandomNumbers, DoublingsAreEquallyLikely) {
  Random random({1});
  std::map<int, int> octaves;
  for (int i = 0; i < 30000; ++i) {
    const int64_t value = random.by_doublings(64, 511);
    ASSERT_GE(value, 64);
    ASSERT_LE(value, 511);
    ++octaves[std::bit_width(static_cast<uint64_t>(value))];
  }
  ASSERT_EQ(octaves.size(), 3u);
  for (const auto& [octave, count] : octaves) EXPECT_NEAR(count, 10000, 500);
  EXPECT_EQ(random.by_doublings(100, 100), 100);
}

}  // namespace
}  // namespace kvasir::data

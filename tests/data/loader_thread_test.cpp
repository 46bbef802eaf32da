// The loader's threads: batches in order, failures in their place, no thread left behind.

#include <gtest/gtest.h>

#include "data/loader.h"
#include "data/small_corpus.h"

namespace kvasir::data {
namespace {

const FakeSamples kSamples;

class LoaderThread : public testing::Test {
 protected:
  BatchSource source(Mixture mixture) {
    recipe_ = small_recipe(128, 4, 12, std::move(mixture));
    recipe_.phases.push_back(recipe_.phases[0]);
    recipe_.phases[1].sequence = 256;
    return BatchSource::make(recipe_, small_.corpus(), kSamples, kBegin).value();
  }
  SmallCorpus small_{{3000, 2000}};
  Recipe recipe_;
};

TEST_F(LoaderThread, GivesEveryPassInOrder) {
  const BatchSource batches = source({{"books", 1}, {"kv", 1}});
  for (const int threads : {1, 4})
    for (const int64_t ahead : {1, 3, 64})
      for (const int64_t first_step : {0, 5, 13}) {
        const Share share{1, 2, 128};
        Loader loader(batches, share, first_step, {threads, ahead});
        for (int64_t step = first_step; step < recipe_.steps(); ++step) {
          const StepPlan plan = plan_step(recipe_, step);
          for (int64_t pass = 0; pass < share.passes(plan); ++pass) {
            const auto range = share.pass(plan, pass);
            const std::optional<Batch> batch = loader.next();
            ASSERT_TRUE(batch);
            ASSERT_EQ(*batch, batches.batch(plan, range.first, range.count));
          }
        }
        EXPECT_FALSE(loader.next());
        EXPECT_FALSE(loader.next());
      }
}

TEST_F(LoaderThread, EndsWithBatchesLeft) {
  const BatchSource batches = source({{"books", 1}, {"kv", 1}});
  for (int taken = 0; taken < 4; ++taken) {
    Loader loader(batches, {}, 0, {3, 2});
    for (int i = 0; i < taken; ++i) EXPECT_TRUE(loader.next());
  }
}

TEST_F(LoaderThread, FailuresArriveInTheirPlace) {
  const BatchSource batches = source({{"books", 3}, {"broken", 1}});
  Loader loader(batches, {0, 1, 1}, 0, {4, 8});  // one sequence a pass: the fourth fails
  const StepPlan plan = plan_step(recipe_, 0);
  int64_t good = 0;
  for (; good < plan.sequences; ++good) {
    try {
      batches.batch(plan, good, 1);
    } catch (const Error&) {
      break;
    }
  }
  ASSERT_LT(good, plan.sequences);
  for (int64_t i = 0; i < good; ++i) EXPECT_TRUE(loader.next());
  EXPECT_THROW(loader.next(), Error);
  EXPECT_THROW(loader.next(), Error);
}

TEST_F(LoaderThread, RefusesUnevenShares) {
  const BatchSource batches = source({{"books", 1}});
  EXPECT_THROW(Loader(batches, {0, 3}, 0, {}), Error);
}

}  // namespace
}  // namespace kvasir::data

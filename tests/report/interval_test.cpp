#include "report/interval.h"

#include <gtest/gtest.h>

namespace kvasir::report {
namespace {

// Worked by hand from the formulas.
TEST(Interval, WilsonsValues) {
  const Interval all = wilson_interval(10, 10), some = wilson_interval(81, 263);
  EXPECT_NEAR(all.low, 0.7225, 1e-4);
  EXPECT_NEAR(all.high, 1, 1e-12);
  EXPECT_NEAR(some.low, 0.2553, 1e-4);
  EXPECT_NEAR(some.high, 0.3662, 1e-4);
  const Interval none = wilson_interval(0, 10);
  EXPECT_NEAR(none.low, 0, 1e-12);
  EXPECT_NEAR(none.high, 1 - all.low, 1e-12);
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(Interval, OfPairsIsSymmetricAndNeverEmpty) {
  const Interval same = paired_interval(0, 0, 300);
  EXPECT_LT(same.low, 0);
  EXPECT_NEAR(same.low, -same.high, 1e-15);
  EXPECT_LT(same.high, 0.01) << "300 questions without a difference exclude a point";
  const Interval better = paired_interval(30, 10, 300), worse = paired_interval(10, 30, 300);
  EXPECT_NEAR(better.low, -worse.high, 1e-15);
  EXPECT_GT(better.low, 0);
  EXPECT_NEAR((better.low + better.high) / 2, 20.0 / 302, 1e-12);
}

}  // namespace
}  // namespace kvasir::report

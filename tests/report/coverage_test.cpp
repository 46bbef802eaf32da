// Coverage against the plan's text, pair by pair.

#include "report/coverage.h"

#include <gtest/gtest.h>

#include "kernels/random_plan.h"
#include "kvasir/error.h"

namespace kvasir::report {
namespace {

using kernels::AttentionPlan;
using kernels::OwnPlan;
using kernels::PlannedRows;
using kernels::RandomPlan;

// How often each pair is computed: [length][length].
class Pairs {
 public:
  explicit Pairs(int64_t length) : length_(length), times_(static_cast<size_t>(length * length)) {}

  void add(const PlannedRows& rows) {
    for (int64_t row = 0; row < rows.rows; ++row)
      for (int64_t key = 0; key <= rows.query_offset + row; ++key) {
        const int64_t query = rows.query_offset + row;
        if (rows.window > 0 && query - key >= rows.window) continue;
        times_[static_cast<size_t>(query * length_ + key)] +=
            rows.plan ? times_held(rows, row, key) : 1;
      }
  }

  void expect(const CoverageMap& map) const {
    for (int row = 0; row < map.pixels(); ++row)
      for (int column = 0; column < map.pixels(); ++column) {
        int64_t causal = 0, held = 0;
        for (int64_t query = map.edge(row); query < map.edge(row + 1); ++query)
          for (int64_t key = map.edge(column); key < map.edge(column + 1); ++key) {
            causal += key <= query;
            held += times_[static_cast<size_t>(query * length_ + key)];
          }
        ASSERT_EQ(map.is_causal(row, column), causal > 0);
        const double share =
            causal > 0 ? static_cast<double>(held) / static_cast<double>(causal) : 0;
        ASSERT_EQ(map.share(row, column), share) << "row " << row << " column " << column;
      }
  }

 private:
  static int times_held(const PlannedRows& rows, int64_t row, int64_t key) {
    const kernels::HeadProgram& program = rows.plan->heads[static_cast<size_t>(rows.head)];
    int times = 0;
    for (const auto& segment : rows.plan->segments.subspan(program.first, program.count))
      times += kernels::holds(*rows.plan, rows.head, segment, rows.query_offset, row, key);
    return times;
  }

  const int64_t length_;
  std::vector<int> times_;
};

TEST(Coverage, IsThatOfThePlansText) {
  for (uint32_t seed = 1; seed <= 40 && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&](int64_t end) { return static_cast<int64_t>(random()) % end; };
    // A prompt of dense rows, then rows with a plan, then rows that nothing was computed for.
    const int64_t dense = below(2) * below(200), planned = 1 + below(250);
    const int64_t length = dense + planned + below(2) * below(100);
    const int64_t window = below(3) ? 0 : 1 + below(100);
    const RandomPlan plan(random, 2, planned, dense);
    const AttentionPlan view = plan.plan().view();
    for (const int most : {1, 7, 64, 1000}) {
      CoverageMap map(length, most);
      Pairs pairs(length);
      for (const PlannedRows& rows : {PlannedRows{.rows = dense, .window = window},
                                      PlannedRows{.plan = &view,
                                                  .head = static_cast<int>(below(2)),
                                                  .rows = planned,
                                                  .query_offset = dense,
                                                  .window = window}}) {
        map.add(rows);
        pairs.add(rows);
      }
      pairs.expect(map);
    }
  }
}

TEST(Coverage, EdgesCutAnyLength) {
  for (const int64_t length : {1, 2, 100, 512, 513, 1000, 65537}) {
    const CoverageMap map(length, 512);
    EXPECT_EQ(map.pixels(), std::min<int64_t>(length, 512));
    EXPECT_EQ(map.edge(0), 0);
    EXPECT_EQ(map.edge(map.pixels()), length);
    for (int pixel = 0; pixel < map.pixels(); ++pixel)
      ASSERT_LT(map.edge(pixel), map.edge(pixel + 1));
  }
}

TEST(Coverage, LongPromptsDoNotOverflow) {
  const int64_t length = int64_t{1} << 22;
  CoverageMap map(length, 16);
  map.add({.rows = length});
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column <= row; ++column) ASSERT_EQ(map.share(row, column), 1);
}

TEST(Coverage, RowsOfAnotherPromptAreRefused) {
  CoverageMap map(10, 4);
  EXPECT_THROW(map.add({.rows = 11}), Error);
  EXPECT_THROW(map.add({.rows = 5, .query_offset = 6}), Error);
  EXPECT_THROW(CoverageMap(0, 4), Error);
}

}  // namespace
}  // namespace kvasir::report

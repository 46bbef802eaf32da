// Attention plans on every instruction set: against the reference, the reference against a mask.

#include "kernels/paged_attention/attention_plan.h"

#include <gtest/gtest.h>

#include <functional>

#include "kernels/paged_attention_problem.h"
#include "kernels/random_plan.h"
#include "kvasir/error.h"

namespace kvasir::kernels {
namespace {

AttentionResult run(const AttentionProblem& problem, const std::vector<AttentionPlan>& plans,
                    const Isa* isa, int threads = 2) {
  ThreadPool pool(threads);
  std::vector<AttentionSpan> spans = problem.spans();
  for (size_t i = 0; i < plans.size(); ++i) spans[i].plan = &plans[i];
  AttentionResult result = problem.empty_result();
  problem.run({.pool = pool}, spans, isa, false, result);
  return result;
}

// As in paged_attention_test.cpp, where the bounds are explained; but few rows that see few keys
// are compared here, whose errors do not average out.
void expect_close(const AttentionProblem& problem, const AttentionResult& expected,
                  const AttentionResult& found) {
  const bool is_f32 = problem.dtype() == DType::kF32;
  double error = 0, norm = 0, largest = 0;
  for (size_t i = 0; i < expected.out.size() / dtype_bytes(problem.dtype()); ++i) {
    const double x = expected.value(problem.dtype(), i), y = found.value(problem.dtype(), i);
    ASSERT_TRUE(std::isfinite(y)) << "element " << i;
    error += (x - y) * (x - y);
    norm += x * x;
    largest = std::max(largest, std::abs(x - y));
  }
  EXPECT_LE(error, (is_f32 ? 1e-11 : 4e-5) * norm);
  EXPECT_LE(largest, is_f32 ? 2e-5 : 0.04);
  for (size_t i = 0; i < expected.lse.size(); ++i)
    if (std::isinf(expected.lse[i]))
      ASSERT_EQ(expected.lse[i], found.lse[i]) << "row " << i;
    else
      ASSERT_NEAR(expected.lse[i], found.lse[i], is_f32 ? 1e-5 : 5e-4) << "row " << i;
}

void check_random(uint32_t seed) {
  std::mt19937 random(seed);
  const auto pick = [&](std::initializer_list<int64_t> values) {
    return values.begin()[random() % values.size()];
  };
  AttentionShape shape{.seed = seed};
  shape.kv_heads = static_cast<int>(pick({1, 2}));
  shape.q_heads = shape.kv_heads * static_cast<int>(pick({1, 3, 4, 18}));
  shape.head_dim = static_cast<int>(pick({16, 40, 64, 128}));
  shape.window = pick({0, 0, 0, 70});
  for (int i = 0; i < 2; ++i)
    shape.spans.push_back({pick({1, 5, 64, 100, 200}), pick({0, 1, 64, 300, 1000})});
  std::vector<OwnPlan> plans;
  for (const SpanShape& span : shape.spans)
    plans.push_back(RandomPlan(random, shape.q_heads, span.rows, span.query_offset).plan());
  std::vector<AttentionPlan> views;
  for (const OwnPlan& plan : plans) views.push_back(plan.view());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const AttentionProblem problem(shape, dtype);
    const AttentionResult expected = run(problem, views, nullptr);
    for (const Isa isa : attention_isas(problem.desc())) {
      SCOPED_TRACE(testing::Message() << attention_implementation(problem.desc(), isa) << " "
                                      << dtype_name(dtype) << ", seed " << seed);
      const AttentionResult found = run(problem, views, &isa);
      expect_close(problem, expected, found);
      for (size_t i = 0; i < expected.scored.size(); ++i)
        EXPECT_GE(found.scored[i], expected.scored[i]);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(AttentionPlan, RandomProgramsMatchTheReference) {
  for (uint32_t seed = 1; seed <= 40 && !HasFailure(); ++seed) check_random(seed);
}

TEST(AttentionPlanFull, RandomProgramsMatchTheReference) {
  const uint32_t first = std::random_device()();
  RecordProperty("first_seed", std::to_string(first));
  for (uint32_t i = 0; i < 1000 && !HasFailure(); ++i) check_random(first + i);
}

// A dense row of weights over the keys that a mask lets through, in double precision.
void expect_masked(const AttentionProblem& problem, const AttentionResult& found,
                   const std::function<bool(int head, int64_t row, int64_t key)>& mask) {
  const AttentionShape& shape = problem.shape();
  const int64_t head_dim = shape.head_dim, offset = shape.spans[0].query_offset;
  const auto* q = reinterpret_cast<const float*>(problem.q());
  uint64_t pairs = 0;
  for (int64_t i = 0; i < shape.spans[0].rows; ++i)
    for (int head = 0; head < shape.q_heads; ++head) {
      const int kv_head = head / (shape.q_heads / shape.kv_heads);
      const auto key_at = [&](int64_t key) {
        return reinterpret_cast<const float*>(problem.pool() + problem.table(0)[key / kPageTokens] *
                                                                   problem.page_bytes()) +
               (kv_head * 2 * kPageTokens + key % kPageTokens) * head_dim;
      };
      double denominator = 0;
      std::vector<double> sums(head_dim);
      for (int64_t key = 0; key <= offset + i; ++key) {
        if (!mask(head, offset + i, key)) continue;
        ++pairs;
        double score = 0;
        for (int64_t d = 0; d < head_dim; ++d)
          score += q[i * problem.q_stride() + head * head_dim + d] * key_at(key)[d];
        const double weight = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
        denominator += weight;
        for (int64_t d = 0; d < head_dim; ++d)
          sums[d] += weight * key_at(key)[kPageTokens * head_dim + d];
      }
      for (int64_t d = 0; d < head_dim; ++d)
        ASSERT_NEAR(found.value(DType::kF32, (i * shape.q_heads + head) * head_dim + d),
                    denominator > 0 ? sums[d] / denominator : 0, 1e-5)
            << "row " << i << " head " << head;
    }
  EXPECT_EQ(found.scored[0], pairs);
}

TEST(AttentionPlan, ReferenceIsTheMask) {
  const AttentionProblem problem(
      {.q_heads = 4, .kv_heads = 2, .head_dim = 8, .spans = {{150, 130}}}, DType::kF32);
  OwnPlan plan = same_for_all(4, a_shape_segments(10, 100));
  // Head 1: a slash and single columns. Head 2: blocks. Head 3: nothing but in the last tiles.
  plan.heads = {{0, 2}, {2, 2}, {4, 1}, {5, 1}};
  plan.columns = {3, 40, 41, 99};
  plan.segments.push_back({.kind = SegmentKind::kRelative, .first = -20, .count = 40});
  plan.segments.push_back({.kind = SegmentKind::kColumns, .count = 4});
  plan.segments.push_back({.kind = SegmentKind::kBlocks, .count = 1});
  plan.bits = {0b00101, 0b01010, 0b10000};
  plan.segments.push_back({.count = kNoBound, .tile_begin = 1});
  const std::vector<AttentionPlan> views = {plan.view()};
  expect_masked(problem, run(problem, views, nullptr), [&](int head, int64_t r, int64_t c) {
    const int64_t tile = (r - 130) / 64, t = 130 + tile * 64;
    if (head == 0) return c < 10 || r - c < 100;
    if (head == 1) return (c >= t - 20 && c < t + 20) || c == 3 || c == 40 || c == 41 || c == 99;
    if (head == 2) return (plan.bits[tile] >> (c / 64) & 1) != 0;
    return tile >= 1;
  });
}

bool same_bits(const AttentionResult& a, const AttentionResult& b) {
  return a.out == b.out &&
         std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0;
}

// Dense attention written as plans: one segment, all blocks, a window that holds everything.
TEST(AttentionPlan, DenseAsAPlanIsDense) {
  const AttentionShape shape{
      .q_heads = 6, .kv_heads = 2, .head_dim = 64, .spans = {{333, 200}}, .query_scale = 4};
  OwnPlan blocks = same_for_all(6, {{.kind = SegmentKind::kBlocks, .count = 1}});
  blocks.bits.assign(6, ~0u);
  OwnPlan apart = same_for_all(6, {{.count = kNoBound}, {.count = kNoBound}});
  apart.row_tile = 128;
  for (int head = 0; head < 6; ++head) apart.heads[head] = {.first = head % 2, .count = 1};
  const OwnPlan plans[] = {same_for_all(6, {{.count = kNoBound}}), blocks, apart,
                           same_for_all(6, a_shape_segments(300, 233))};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const AttentionProblem problem(shape, dtype);
    for (const Isa isa : attention_isas(problem.desc())) {
      const AttentionResult dense = run(problem, {}, &isa);
      for (const OwnPlan& plan : plans) {
        SCOPED_TRACE(testing::Message() << attention_implementation(problem.desc(), isa) << " "
                                        << dtype_name(dtype) << " plan " << &plan - plans);
        const AttentionResult found = run(problem, {plan.view()}, &isa);
        // Two segments that hold everything are added in another order.
        if (&plan == plans + 3)
          expect_close(problem, dense, found);
        else
          EXPECT_TRUE(same_bits(dense, found));
      }
    }
  }
}

TEST(AttentionPlan, ResultsDoNotDependOnTheChunks) {
  const AttentionShape shape{.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{500, 0}}};
  const OwnPlan plan = same_for_all(4, a_shape_segments(40, 130));
  const AttentionPlan view = plan.view();
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const AttentionProblem problem(shape, dtype);
    for (const Isa isa : attention_isas(problem.desc())) {
      const AttentionResult whole = run(problem, {view}, &isa);
      for (const int64_t chunk : {1, 7, 100, 129}) {
        std::vector<AttentionSpan> spans;
        for (int64_t first = 0; first < 500; first += chunk)
          spans.push_back({.first_row = first,
                           .rows = std::min(chunk, 500 - first),
                           .query_offset = first,
                           .page_table = problem.table(0).data(),
                           .plan = &view});
        AttentionResult found = problem.empty_result();
        problem.run({.pool = pool}, spans, &isa, false, found);
        EXPECT_TRUE(same_bits(whole, found))
            << attention_implementation(problem.desc(), isa) << " chunks of " << chunk;
      }
    }
  }
}

// A vertical-slash program: columns of which some lie in a run that moves along with the row tiles.
TEST(AttentionPlan, ColumnsInRunsWhateverTheThreads) {
  const AttentionShape shape{
      .q_heads = 3, .kv_heads = 1, .head_dim = 64, .spans = {{1500, 700}}, .query_scale = 4};
  OwnPlan plan = same_for_all(3, {});
  for (int32_t first : {-640, -305, -190, -60})
    plan.segments.push_back({.kind = SegmentKind::kRelative, .first = first, .count = 91});
  for (int32_t column = 0; column < 700; column += 1 + column % 5) plan.columns.push_back(column);
  plan.segments.push_back(
      {.kind = SegmentKind::kColumns, .count = static_cast<int32_t>(plan.columns.size())});
  const auto all = static_cast<int32_t>(plan.segments.size());
  plan.heads = {{0, all}, {0, 0}, {1, all - 1}};
  for (const int32_t row_tile : {64, 128}) {
    plan.row_tile = row_tile;
    const AttentionPlan view = plan.view();
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const AttentionProblem problem(shape, dtype);
      const AttentionResult expected = run(problem, {view}, nullptr);
      std::vector<AttentionSpan> spans = problem.spans();
      spans[0].plan = &view;
      for (const Isa isa : attention_isas(problem.desc())) {
        SCOPED_TRACE(testing::Message() << attention_implementation(problem.desc(), isa) << " "
                                        << dtype_name(dtype) << " row tile " << row_tile);
        AttentionResult first;
        for (const int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          AttentionResult found = problem.empty_result();
          problem.run({.pool = pool}, spans, &isa, true, found);
          expect_close(problem, expected, found);
          EXPECT_LE(found.scored[0], expected.scored[0] * 13 / 10) << "some places are masked";
          if (threads == 1)
            first = std::move(found);
          else
            EXPECT_TRUE(same_bits(first, found)) << threads << " threads";
        }
      }
    }
  }
}

// Whole tiles that nothing of a program touches are not scored.
TEST(AttentionPlan, SkipsWhatIsNotInIt) {
  const AttentionShape shape{.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{2048, 0}}};
  const AttentionProblem problem(shape, DType::kBF16);
  const OwnPlan plan = same_for_all(2, a_shape_segments(64, 256));
  const AttentionResult exact = run(problem, {plan.view()}, nullptr);
  for (const Isa isa : attention_isas(problem.desc())) {
    const AttentionResult found = run(problem, {plan.view()}, &isa);
    // At most two granules of 32 keys and the rows of a tile beyond what a row sees, a segment.
    EXPECT_LE(found.scored[0], exact.scored[0] + 2u * 2048 * 2 * 94);
  }
}

TEST(AttentionPlan, EmptyProgramsGiveNothing) {
  const AttentionShape shape{.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{70, 90}}};
  const OwnPlan plan = same_for_all(2, {{.count = 10, .offset_begin = 100}});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const AttentionProblem problem(shape, dtype);
    for (const Isa isa : attention_isas(problem.desc())) {
      const AttentionResult found = run(problem, {plan.view()}, &isa);
      for (int64_t row = 0; row < 70; ++row)  // row 10 is the first at distance 100
        for (int head = 0; head < 2; ++head)
          EXPECT_EQ(std::isinf(found.lse[row * 2 + head]), row < 10) << row;
      for (size_t i = 0; i < 10 * 2 * 64; ++i) EXPECT_EQ(found.value(dtype, i), 0);
    }
  }
}

TEST(AttentionPlan, RefusesWhatItCannotRun) {
  const AttentionProblem problem({.q_heads = 2, .spans = {{8, 0}}}, DType::kF32);
  const Isa isa = best_isa();
  OwnPlan plan = same_for_all(1, {{.count = kNoBound}});
  EXPECT_THROW(run(problem, {plan.view()}, &isa), Error) << "a head without a program";
  plan = same_for_all(2, {{.query_variant = 1, .count = kNoBound}});
  EXPECT_THROW(run(problem, {plan.view()}, &isa), Error);
  plan = same_for_all(2, {{.count = kNoBound}});
  plan.row_tile = 60;
  EXPECT_THROW(run(problem, {plan.view()}, &isa), Error);
}

}  // namespace
}  // namespace kvasir::kernels

// Attention plans on a GPU: every implementation against the definition on the CPU.

#include <gtest/gtest.h>

#include <memory>

#include "kernels/paged_attention/prefill_attention_table.h"
#include "kernels/paged_attention_gpu_problem.h"
#include "kernels/random_plan.h"

namespace kvasir::kernels {
namespace {

// Plans in device memory, behind one index each.
class DevicePlans {
 public:
  explicit DevicePlans(const std::vector<OwnPlan>& plans) : plans_(plans.size()) {
    std::vector<CudaAttentionPlan> views;
    for (const OwnPlan& plan : plans) {
      const Arrays& arrays = *arrays_.emplace_back(std::make_unique<Arrays>(
          Arrays{.heads = testing::DeviceArray<HeadProgram>(plan.heads),
                 .segments = testing::DeviceArray<PlanSegment>(plan.segments),
                 .columns = testing::DeviceArray<int32_t>(plan.columns),
                 .bits = testing::DeviceArray<uint32_t>(plan.bits)}));
      views.push_back({.heads = arrays.heads.data(),
                       .segments = arrays.segments.data(),
                       .columns = arrays.columns.data(),
                       .block_bits = arrays.bits.data(),
                       .row_tile = plan.row_tile});
    }
    plans_.write(views);
  }
  const CudaAttentionPlan* data() const { return plans_.data(); }
  int count() const { return static_cast<int>(plans_.size()); }

 private:
  struct Arrays {
    testing::DeviceArray<HeadProgram> heads;
    testing::DeviceArray<PlanSegment> segments;
    testing::DeviceArray<int32_t> columns;
    testing::DeviceArray<uint32_t> bits;
  };
  std::vector<std::unique_ptr<Arrays>> arrays_;
  testing::DeviceArray<CudaAttentionPlan> plans_;
};

struct PlannedResult {
  GpuAttentionResult values;
  std::vector<uint64_t> scored;
};

class PrefillPlans : public testing::GpuTest {
 protected:
  std::vector<const PrefillImplementation*> implementations(const AttentionDesc& desc) const {
    std::vector<const PrefillImplementation*> found;
    for (const PrefillImplementation* each : {&kPrefillAttentionSm80, &kPrefillAttentionSm90})
      if (each->supports(desc, context_.compute_capability)) found.push_back(each);
    return found;
  }

  // `spans` name the plans that they have.
  PlannedResult run(const PrefillImplementation& op, const GpuAttentionProblem& problem,
                    const std::vector<CudaAttentionSpan>& spans,
                    const std::vector<OwnPlan>& plans) const {
    const DevicePlans on_device(plans);
    testing::DeviceArray<uint64_t> scored(spans.size());
    scored.write(std::vector<uint64_t>(spans.size(), 0));
    const size_t bytes = op.workspace_bytes(
        problem.desc(), context_, static_cast<int>(spans.size()), problem.max_rows(), true);
    PlannedResult result;
    result.values = problem.run(spans, bytes, [&](CudaAttentionArgs args) {
      args.plans = on_device.data();
      args.plan_count = on_device.count();
      args.scored_pairs = scored.data();
      op.build(context_, args);
      op.build_plans(context_, args);
      op.run(context_, args);
    });
    result.scored = scored.read();
    return result;
  }

  static std::vector<CudaAttentionSpan> planned(std::vector<CudaAttentionSpan> spans, int plan) {
    for (CudaAttentionSpan& span : spans) span.plan = plan;
    return spans;
  }

  // Span i has plan i % 3 == 2 ? none : i.
  void check_random(uint32_t seed, bool quick) const {
    std::mt19937 random(seed);
    const auto pick = [&](std::initializer_list<int64_t> values) {
      return values.begin()[random() % values.size()];
    };
    AttentionShape shape{.seed = seed};
    shape.kv_heads = static_cast<int>(pick({1, 2}));
    shape.q_heads = shape.kv_heads * static_cast<int>(pick({1, 3, 4}));
    shape.head_dim = static_cast<int>(quick ? pick({64, 128}) : pick({16, 64, 80, 128, 128, 256}));
    shape.window = pick({0, 0, 0, 70});
    for (int i = 0; i < 3; ++i)
      shape.spans.push_back({quick ? pick({5, 64, 100}) : pick({1, 5, 64, 100, 200, 300}),
                             quick ? pick({0, 1, 100}) : pick({0, 1, 64, 300, 1000})});
    const DType dtype = pick({0, 1}) ? DType::kBF16 : DType::kF16;
    const GpuAttentionProblem problem(shape, dtype);
    std::vector<CudaAttentionSpan> spans = problem.spans();
    std::vector<OwnPlan> plans;
    for (size_t i = 0; i < 2; ++i) {
      spans[i].plan = static_cast<int32_t>(i);
      plans.push_back(
          RandomPlan(random, shape.q_heads, shape.spans[i].rows, shape.spans[i].query_offset)
              .plan());
    }
    const AttentionPlan views[] = {plans[0].view(), plans[1].view()};
    const AttentionResult expected = problem.expected_exact({&views[0], &views[1]});
    for (const PrefillImplementation* op : implementations(problem.desc())) {
      SCOPED_TRACE(::testing::Message()
                   << op->name << " " << dtype_name(dtype) << ", " << shape << ", row tiles "
                   << plans[0].row_tile << " " << plans[1].row_tile);
      const PlannedResult found = run(*op, problem, spans, plans);
      expect_close(problem, expected, found.values);
      for (size_t i = 0; i < 2; ++i) EXPECT_GE(found.scored[i], expected.scored[i]);
      EXPECT_EQ(found.scored[2], 0u);
      if (HasFailure()) return;
    }
  }

  // By the same implementation without plans.
  GpuAttentionResult dense(const PrefillImplementation& op,
                           const GpuAttentionProblem& problem) const {
    return run(op, problem, problem.spans(), {}).values;
  }
};
using PrefillPlansFull = PrefillPlans;

TEST_F(PrefillPlans, RandomProgramsMatchTheDefinition) {
  for (uint32_t seed = 1; seed <= 6 && !HasFailure(); ++seed) check_random(seed, true);
}

TEST_F(PrefillPlansFull, RandomProgramsMatchTheDefinition) {
  const uint32_t first = std::random_device()();
  RecordProperty("first_seed", std::to_string(first));
  for (uint32_t seed = 1; seed <= 60 && !HasFailure(); ++seed) check_random(seed, false);
  for (uint32_t i = 0; i < 40 && !HasFailure(); ++i) check_random(first + i, false);
}

// Dense attention written as plans: one segment, all blocks, a window that holds everything, a run
// that does.
TEST_F(PrefillPlans, DenseAsAPlanIsDense) {
  for (const int head_dim : {64, 128}) {
    const GpuAttentionProblem problem({.q_heads = 2,
                                       .kv_heads = 1,
                                       .head_dim = head_dim,
                                       .spans = {{190, 200}},
                                       .query_scale = 4},
                                      DType::kBF16);
    for (const int32_t row_tile : {64, 128}) {
      const OwnPlan one = same_for_all(2, {{.count = kNoBound}});
      OwnPlan blocks = same_for_all(2, {{.kind = SegmentKind::kBlocks, .count = 1}});
      blocks.bits.assign(3, ~0u);
      const OwnPlan run_of_all =
          same_for_all(2, {{.kind = SegmentKind::kRelative, .first = -400, .count = 600}});
      const OwnPlan a_shape = same_for_all(2, a_shape_segments(300, 233));
      std::vector<OwnPlan> plans{one, blocks, run_of_all, a_shape};
      for (OwnPlan& plan : plans) plan.row_tile = row_tile;
      for (const PrefillImplementation* op : implementations(problem.desc())) {
        const GpuAttentionResult expected = dense(*op, problem);
        const AttentionResult exact = problem.expected(context_);
        for (size_t i = 0; i < plans.size(); ++i) {
          SCOPED_TRACE(::testing::Message() << op->name << " head_dim " << head_dim << " row tile "
                                            << row_tile << " plan " << i);
          const GpuAttentionResult found =
              run(*op, problem, planned(problem.spans(), 0), {plans[i]}).values;
          // Others are added in another order.
          if (i < (row_tile == 128 ? 2 : 1))
            EXPECT_TRUE(found == expected);
          else
            expect_close(problem, exact, found);
        }
      }
    }
  }
}

// Index sets that do not depend on where the chunks begin, by tiles at fixed places.
TEST_F(PrefillPlans, ResultsDoNotDependOnTheChunks) {
  for (const int head_dim : {64, 128}) {
    const GpuAttentionProblem problem(
        {.q_heads = 2, .kv_heads = 1, .head_dim = head_dim, .spans = {{500, 0}}}, DType::kF16);
    for (const int32_t row_tile : {64, 128}) {
      OwnPlan plan = same_for_all(2, a_shape_segments(40, 130));
      plan.row_tile = row_tile;
      for (const PrefillImplementation* op : implementations(problem.desc())) {
        const GpuAttentionResult whole =
            run(*op, problem, planned(problem.spans(), 0), {plan}).values;
        for (const int rows : {7, 100, 129})
          EXPECT_TRUE(run(*op, problem, planned(problem.chunks(rows), 0), {plan}).values == whole)
              << op->name << " head_dim " << head_dim << " chunks of " << rows;
      }
    }
  }
}

TEST_F(PrefillPlans, EmptyProgramsGiveNothing) {
  const GpuAttentionProblem problem(
      {.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{70, 90}, {30, 0}}}, DType::kBF16);
  std::vector<OwnPlan> plans{same_for_all(2, {{.count = 10, .offset_begin = 100}}),
                             same_for_all(2, {})};
  plans[0].heads[1].count = 0;
  std::vector<CudaAttentionSpan> spans = problem.spans();
  spans[0].plan = 0;
  spans[1].plan = 1;
  for (const PrefillImplementation* op : implementations(problem.desc())) {
    const PlannedResult found = run(*op, problem, spans, plans);
    for (size_t row = 0; row < 100; ++row)
      for (size_t head = 0; head < 2; ++head) {
        // Row 10 is the first at distance 100.
        const bool is_empty = row < 10 || row >= 70 || head == 1;
        EXPECT_EQ(std::isinf(found.values.lse[row * 2 + head]), is_empty) << row << " " << head;
        for (size_t i = 0; i < 64 && is_empty; ++i)
          ASSERT_EQ(found.values.out[(row * 2 + head) * 64 + i], 0) << row << " " << head;
      }
  }
}

// What no row sees is not read: it may hold anything.
TEST_F(PrefillPlans, UnselectedKeysMayBeNaN) {
  constexpr int kRows = 250, kOffset = 1100, kLength = kRows + kOffset;
  for (const int32_t row_tile : {64, 128})
    for (const int head_dim : {64, 128}) {
      GpuAttentionProblem problem(
          {.q_heads = 3, .kv_heads = 1, .head_dim = head_dim, .spans = {{kRows, kOffset}}},
          DType::kBF16);
      OwnPlan plan;
      plan.row_tile = row_tile;
      plan.segments = {{.kind = SegmentKind::kRelative, .first = -1000, .count = 65},
                       {.kind = SegmentKind::kRelative, .first = -333, .count = 70},
                       {.kind = SegmentKind::kRelative, .first = -3, .count = row_tile + 3},
                       {.kind = SegmentKind::kColumns, .first = 0, .count = 40},
                       {.kind = SegmentKind::kBlocks, .first = 0, .count = 1},
                       {.count = 3},
                       {.count = kNoBound, .offset_end = 33}};
      plan.heads = {{0, 4}, {4, 1}, {5, 2}};
      for (int i = 0; i < 40; ++i) plan.columns.push_back(5 + i * 27);
      for (int i = 0; i * row_tile < kRows; ++i) plan.bits.push_back(0x11u << i);
      // What the rows of each row tile may touch: single columns, and groups of 8.
      std::vector<bool> is_touched(kLength + 8);
      const auto touch = [&](int64_t first, int64_t last) {
        for (int64_t key = std::max<int64_t>(first, 0) / 8 * 8;
             key < std::min<int64_t>(last, kLength); ++key)
          is_touched[key] = true;
        for (int64_t key = last; key % 8 != 0 && key < kLength; ++key) is_touched[key] = true;
      };
      for (int row = 0; row < kRows; row += row_tile) {
        const int t = kOffset + row;
        for (int i = 0; i < 3; ++i)
          touch(t + plan.segments[i].first, t + plan.segments[i].first + plan.segments[i].count);
        for (int block = 0; block < 32; ++block)
          if (plan.bits[row / row_tile] >> block & 1) touch(block * 64, block * 64 + 64);
      }
      touch(0, 3);
      touch(kOffset - 32, kLength);
      for (const int32_t column : plan.columns) is_touched[column] = true;
      problem.poison(0, [&](int, int64_t key) { return !is_touched[key]; });
      const AttentionPlan view = plan.view();
      const AttentionResult expected = problem.expected_exact({&view});
      for (const PrefillImplementation* op : implementations(problem.desc())) {
        SCOPED_TRACE(::testing::Message()
                     << op->name << " head_dim " << head_dim << " row tile " << row_tile);
        expect_close(problem, expected,
                     run(*op, problem, planned(problem.spans(), 0), {plan}).values);
      }
    }
}

// Long programs, several items a multiprocessor, whole tiles of columns: too long for the
// definition on the CPU, so that one implementation is held against another one.
TEST_F(PrefillPlansFull, ImplementationsAgreeOnLongPlans) {
  constexpr int kRows = 9000, kOffset = 7000, kLength = kRows + kOffset;
  for (const int head_dim : {64, 128}) {
    const GpuAttentionProblem problem(
        {.q_heads = 8, .kv_heads = 2, .head_dim = head_dim, .spans = {{kRows, kOffset}}},
        DType::kBF16);
    const auto ops = implementations(problem.desc());
    if (ops.size() < 2) GTEST_SKIP() << "one implementation";
    for (const int32_t row_tile : {64, 128}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << head_dim << " row tile " << row_tile);
      std::mt19937 random(7);
      OwnPlan plan;
      plan.row_tile = row_tile;
      for (int head = 0; head < 8; ++head) {
        const auto first = static_cast<int32_t>(plan.segments.size());
        for (int32_t key = -kLength; key < -200;
             key += 150 + static_cast<int32_t>(random() % 700)) {
          const auto count = static_cast<int32_t>(row_tile + random() % 80);
          plan.segments.push_back({.kind = SegmentKind::kRelative, .first = key, .count = count});
        }
        plan.segments.push_back(
            {.kind = SegmentKind::kRelative, .first = -40, .count = row_tile + 40});
        PlanSegment columns{.kind = SegmentKind::kColumns,
                            .first = static_cast<int32_t>(plan.columns.size())};
        for (int32_t key = 0; key < kLength; key += 1 + static_cast<int32_t>(random() % 30))
          plan.columns.push_back(key);
        columns.count = static_cast<int32_t>(plan.columns.size()) - columns.first;
        plan.segments.push_back(columns);
        plan.heads.push_back({first, static_cast<int32_t>(plan.segments.size()) - first});
      }
      const std::vector<CudaAttentionSpan> spans = planned(problem.spans(), 0);
      const GpuAttentionResult other = run(*ops[0], problem, spans, {plan}).values;
      AttentionResult expected;
      expected.lse = other.lse;
      expected.out.resize(other.out.size() * sizeof(float));
      for (size_t i = 0; i < other.out.size(); ++i)
        reinterpret_cast<float*>(expected.out.data())[i] = bf16_to_f32(other.out[i]);
      expect_close(problem, expected, run(*ops[1], problem, spans, {plan}).values);
    }
  }
}

// The same bits each time, whatever runs beside it and however often the lists are written.
TEST_F(PrefillPlansFull, RunsAreTheSameBits) {
  std::mt19937 random(5);
  const AttentionShape shape{
      .q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{700, 900}, {300, 40}, {256, 0}}};
  const GpuAttentionProblem problem(shape, DType::kBF16);
  std::vector<CudaAttentionSpan> spans = problem.spans();
  std::vector<OwnPlan> plans;
  for (size_t i = 0; i < 2; ++i) {
    spans[i].plan = static_cast<int32_t>(i);
    plans.push_back(RandomPlan(random, 8, shape.spans[i].rows, shape.spans[i].query_offset).plan());
  }
  for (const PrefillImplementation* op : implementations(problem.desc())) {
    const GpuAttentionResult first = run(*op, problem, spans, plans).values;
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(run(*op, problem, spans, plans).values == first);
    context_.overlap = true;
    EXPECT_TRUE(run(*op, problem, spans, plans).values == first);
    context_.overlap = false;
    // Dense spans do not notice the others' plans.
    const GpuAttentionResult dense_alone = run(*op, problem, problem.spans(), {}).values;
    const size_t row = static_cast<size_t>(spans[2].first_row) * 8 * 128;
    EXPECT_TRUE(std::equal(first.out.begin() + static_cast<int64_t>(row), first.out.end(),
                           dense_alone.out.begin() + static_cast<int64_t>(row)));
  }
}

}  // namespace
}  // namespace kvasir::kernels

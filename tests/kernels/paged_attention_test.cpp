#include "kernels/paged_attention/paged_attention.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/paged_attention_problem.h"

namespace kvasir::kernels {
namespace {

// Outputs are weighted means of values from a normal distribution, at most about 5.
//   f32: sums of a thousand products in another order, exp to 2e-7; errors of scores, and of
//   weights
//     with them, grow with the scores.
//   bf16: the result is rounded to 8 bits (relative error up to 2^-9, mean square 1e-6), on both
//     sides; where products are of bf16 pairs the weights have 8 bits too (another 4e-6), and one
//     row's error is hardly more than 2^-8 * 5 for the weights and as much for the results. exp to
//     8e-5, hence lse.
struct Bounds {
  double mean_square;
  double maximum;
  double lse;
};
Bounds bounds(const AttentionProblem& problem) {
  double grown = std::max(1.0f, problem.shape().query_scale);
  for (const SpanShape& span : problem.shape().spans)
    grown = std::max(grown, static_cast<double>(problem.shape().key_growth) *
                                static_cast<double>(span.query_offset + span.rows));
  if (problem.dtype() == DType::kF32) return {1e-11 * grown * grown, 2e-5 * grown, 1e-5 * grown};
  return {1.5e-5, 0.04, 5e-4 + 4e-7 * grown};
}

void expect_close(const AttentionProblem& problem, const AttentionResult& expected,
                  const AttentionResult& found) {
  const Bounds bound = bounds(problem);
  double error = 0, norm = 0, largest = 0;
  const size_t elements = expected.out.size() / dtype_bytes(problem.dtype());
  for (size_t i = 0; i < elements; ++i) {
    const double x = expected.value(problem.dtype(), i), y = found.value(problem.dtype(), i);
    ASSERT_TRUE(std::isfinite(y)) << "element " << i;
    error += (x - y) * (x - y);
    norm += x * x;
    largest = std::max(largest, std::abs(x - y));
  }
  EXPECT_LE(error, bound.mean_square * norm);
  EXPECT_LE(largest, bound.maximum);
  for (size_t i = 0; i < expected.lse.size(); ++i) {
    if (std::isinf(expected.lse[i])) {
      ASSERT_EQ(expected.lse[i], found.lse[i]) << "row " << i;
    } else {
      ASSERT_NEAR(expected.lse[i], found.lse[i], bound.lse) << "row " << i;
    }
  }
}

// A tile of up to 32 rows scores whole granules of 32 keys: at most 31 keys more at either end of
// what a row sees, and as many as the tile has positions besides. A row alone scores whole pages at
// most.
void expect_scored(const AttentionProblem& problem, const AttentionResult& expected,
                   const AttentionResult& found) {
  for (size_t i = 0; i < expected.scored.size(); ++i) {
    const auto rows = static_cast<uint64_t>(problem.shape().spans[i].rows);
    EXPECT_GE(found.scored[i], expected.scored[i]) << "span " << i;
    EXPECT_LE(found.scored[i],
              expected.scored[i] +
                  rows * (rows == 1 ? 126 : 94) * static_cast<uint64_t>(problem.shape().q_heads))
        << "span " << i;
  }
}

void check(const AttentionShape& shape) {
  ThreadPool pool(2);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const AttentionProblem problem(shape, dtype);
    AttentionResult expected = problem.empty_result();
    problem.run({.pool = pool}, problem.spans(), nullptr, false, expected);
    for (Isa isa : attention_isas(problem.desc())) {
      for (bool deterministic : {false, true}) {
        SCOPED_TRACE(testing::Message()
                     << attention_implementation(problem.desc(), isa) << " " << dtype_name(dtype)
                     << " heads " << shape.q_heads << "/" << shape.kv_heads << " head_dim "
                     << shape.head_dim << " window " << shape.window
                     << " span 0: " << (shape.spans.empty() ? 0 : shape.spans[0].rows) << " rows"
                     << (deterministic ? " deterministic" : "") << ", seed " << shape.seed);
        AttentionResult found = problem.empty_result();
        problem.run({.pool = pool}, problem.spans(), &isa, deterministic, found);
        expect_close(problem, expected, found);
        expect_scored(problem, expected, found);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(PagedAttention, Lengths) {
  for (int64_t length : {1, 2, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257})
    check({.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{length, 0}}});
  check({.q_heads = 1, .kv_heads = 1, .head_dim = 32, .spans = {{1000, 0}}});
}

TEST(PagedAttention, ChunksAndDecodeAtAnOffset) {
  for (int64_t length : {1, 2, 64, 65, 100, 129, 1000, 3000})
    for (int64_t rows : {1, 2, 7, 40}) {
      if (rows > length) continue;
      check({.q_heads = 3, .kv_heads = 1, .head_dim = 64, .spans = {{rows, length - rows}}});
    }
}

TEST(PagedAttention, HeadSizes) {
  for (int head_dim : {1, 7, 16, 24, 40, 64, 80, 96, 100, 128, 192, 256}) {
    check({.q_heads = 2, .kv_heads = 1, .head_dim = head_dim, .spans = {{70, 0}, {1, 150}}});
    check({.q_heads = 2,
           .kv_heads = 2,
           .head_dim = head_dim,
           .spans = {{17, 128}, {1, 63}},
           .query_scale = 4,
           .seed = 2});
  }
}

TEST(PagedAttention, HeadGroups) {
  for (int group : {1, 3, 4, 8, 16, 40})
    check({.q_heads = group, .kv_heads = 1, .head_dim = 64, .spans = {{37, 100}, {1, 200}}});
  check({.q_heads = 8, .kv_heads = 4, .head_dim = 32, .spans = {{20, 5}, {1, 90}, {1, 0}}});
  check({.q_heads = 600, .kv_heads = 1, .head_dim = 16, .spans = {{3, 5}, {1, 9}}});
}

// Every way in which decode on matrix tiles cuts heads, rows and pages.
TEST(PagedAttention, DecodeOfHeadGroupsHeadSizesAndPartsOfPages) {
  for (int head_dim : {32, 64, 96, 128, 160, 256, 288})
    for (int group : {3, 4, 5, 8, 16, 20})
      check({.q_heads = 2 * group,
             .kv_heads = 2,
             .head_dim = head_dim,
             .spans = {{1, 0}, {1, 15}, {1, 32}, {1, 47}, {1, 63}, {1, 64}, {1, 400}},
             .window = group % 2 == 0 ? 0 : 90,
             .page_gap_bytes = 64,
             .seed = static_cast<uint32_t>(group)});
}

// Many tasks with several KV heads each, joined in the order of keys.
TEST(PagedAttention, LongDecodeTwiceGivesTheSameBits) {
  const AttentionProblem problem(
      {.q_heads = 12, .kv_heads = 4, .head_dim = 64, .spans = {{1, 8000}, {1, 300}}}, DType::kBF16);
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    AttentionResult expected = problem.empty_result();
    problem.run({.pool = pool}, problem.spans(), nullptr, false, expected);
    for (Isa isa : attention_isas(problem.desc())) {
      SCOPED_TRACE(attention_implementation(problem.desc(), isa));
      AttentionResult once = problem.empty_result(), twice = problem.empty_result();
      problem.run({.pool = pool}, problem.spans(), &isa, false, once);
      problem.run({.pool = pool}, problem.spans(), &isa, false, twice);
      expect_close(problem, expected, once);
      EXPECT_EQ(once.out, twice.out);
      EXPECT_EQ(once.lse, twice.lse);
    }
  }
}

TEST(PagedAttention, Windows) {
  for (int64_t window : {1, 16, 63, 64, 65, 100, 1000}) {
    check({.q_heads = 3,
           .kv_heads = 1,
           .head_dim = 64,
           .spans = {{150, 0}, {33, 270}, {1, 299}, {1, 0}, {1, 64}},
           .window = window});
  }
}

TEST(PagedAttention, PeakedWeights) {
  for (float query_scale : {0.0f, 8.0f, 100.0f})
    check({.q_heads = 2,
           .kv_heads = 1,
           .head_dim = 64,
           .spans = {{200, 0}, {1, 900}},
           .query_scale = query_scale});
}

// Weights relative to the first key's would soon overflow.
TEST(PagedAttention, ScoresThatGrowWithEveryKey) {
  for (float key_growth : {0.02f, 0.3f, 2.0f})
    for (int head_dim : {32, 80, 128})
      check({.q_heads = 5,
             .kv_heads = 1,
             .head_dim = head_dim,
             .spans = {{300, 0}, {1, 900}, {33, 700}, {1, 0}},
             .window = key_growth < 1 ? 0 : 200,
             .key_growth = key_growth});
  for (float key_growth : {0.02f, 0.3f})
    for (int head_dim : {64, 128, 256})
      check({.q_heads = 6,
             .kv_heads = 2,
             .head_dim = head_dim,
             .spans = {{1, 700}, {1, 63}},
             .key_growth = key_growth});
}

TEST(PagedAttention, RaggedBatchesAndEmptySpans) {
  check({.spans = {}});
  check({.spans = {{0, 0}}});
  check({.q_heads = 4,
         .kv_heads = 2,
         .head_dim = 64,
         .spans = {{1, 0}, {0, 0}, {1, 400}, {65, 3}, {2, 0}, {1, 63}, {0, 70}, {1, 64}},
         .q_row_gap = 24,
         .page_gap_bytes = 192});
  std::vector<SpanShape> many;
  for (int64_t i = 0; i < 60; ++i) many.push_back({1, i * 7 % 91});
  many.push_back({1, 1500});  // one long sequence among short ones
  check({.q_heads = 6, .kv_heads = 2, .head_dim = 32, .spans = many, .with_lse = false});
}

TEST(PagedAttention, RowsWithoutVisibleKeys) {
  check({.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{5, -3}, {1, -1}, {2, -2}}});
  const AttentionProblem problem({.spans = {{1, -1}, {3, -2}}}, DType::kBF16);
  ThreadPool pool(1);
  for (Isa isa : attention_isas(problem.desc())) {
    AttentionResult found = problem.empty_result();
    problem.run({.pool = pool}, problem.spans(), &isa, false, found);
    EXPECT_EQ(found.value(DType::kBF16, 0), 0);
    EXPECT_EQ(found.lse[0], -INFINITY);
    EXPECT_EQ(found.lse[1], -INFINITY);
    EXPECT_TRUE(std::isfinite(found.lse[3]));
  }
}

TEST(PagedAttention, RandomShapes) {
  std::mt19937 random(20240607);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 40; ++round) {
    AttentionShape shape;
    shape.seed = static_cast<uint32_t>(round + 100);
    shape.kv_heads = static_cast<int>(pick(1, 3));
    shape.q_heads = shape.kv_heads * static_cast<int>(pick(1, 5));
    shape.head_dim = static_cast<int>(pick(1, 140));
    shape.window = pick(0, 2) == 0 ? pick(1, 200) : 0;
    shape.q_row_gap = pick(0, 1) * pick(0, 40);
    for (int64_t spans = pick(1, 4); spans > 0; --spans)
      shape.spans.push_back({pick(0, 3) == 0 ? 1 : pick(0, 50), pick(0, 300)});
    check(shape);
    if (HasFailure()) return;
  }
}

// One sequence, whole, is the yardstick; any other way to cut, batch and thread it gives its bits.
TEST(PagedAttention, DeterministicWhateverChunksBatchesThreads) {
  constexpr int64_t kLength = 420;
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (int64_t window : {0, 100}) {
      const AttentionProblem problem({.q_heads = 6,
                                      .kv_heads = 2,
                                      .head_dim = 80,
                                      .spans = {{kLength, 0}, {1, 200}, {30, 100}},
                                      .window = window,
                                      .query_scale = 3,
                                      .key_growth = window == 0 ? 0.0f : 0.5f},
                                     dtype);
      const std::vector<AttentionSpan> whole = problem.spans();
      for (Isa isa : attention_isas(problem.desc())) {
        SCOPED_TRACE(attention_implementation(problem.desc(), isa));
        ThreadPool one(1);
        AttentionResult expected = problem.empty_result();
        for (const AttentionSpan& span : whole) {
          AttentionResult alone = expected;
          problem.run({.pool = one}, {span}, &isa, true, alone);
          expected = alone;
        }
        for (int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          for (int64_t chunk : {1, 7, 64, 100, 419}) {
            std::vector<AttentionSpan> spans;
            for (const AttentionSpan& span : whole)
              for (int64_t row = 0; row < span.rows; row += chunk)
                spans.push_back({.first_row = span.first_row + row,
                                 .rows = std::min(chunk, span.rows - row),
                                 .query_offset = span.query_offset + row,
                                 .page_table = span.page_table});
            AttentionResult found = problem.empty_result();
            problem.run({.pool = pool}, spans, &isa, true, found);
            ASSERT_EQ(std::memcmp(found.out.data(), expected.out.data(), found.out.size()), 0)
                << threads << " threads, chunks of " << chunk;
            ASSERT_EQ(std::memcmp(found.lse.data(), expected.lse.data(), found.lse.size() * 4), 0)
                << threads << " threads, chunks of " << chunk;
          }
        }
      }
    }
  }
}

TEST(PagedAttention, PagesFarBeyondTwoToThe31Elements) {
  const int64_t page_bytes = PagePool::plain_page_bytes(DType::kBF16, 1, 64);
  const std::vector<uint32_t> table = {700'000, 3, 650'000};
  const auto bytes = static_cast<size_t>((table[0] + 1) * page_bytes);  // 11 GB, hardly touched
  ASSERT_GT(table[2] * page_bytes / 2, int64_t{1} << 31);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) GTEST_SKIP() << "no address space for a large mapping";
  const PagePool pages{.base = static_cast<std::byte*>(memory),
                       .page_bytes = page_bytes,
                       .dtype = DType::kBF16,
                       .kv_heads = 1,
                       .head_dim = 64};
  // Every key is the same, and the value is its page's place in the table.
  for (size_t i = 0; i < table.size(); ++i) {
    auto* page = reinterpret_cast<bf16_t*>(pages.page(table[i]));
    std::fill_n(page, 64 * 64, f32_to_bf16(1));
    std::fill_n(page + 64 * 64, 64 * 64, f32_to_bf16(static_cast<float>(i)));
  }
  ThreadPool pool(1);
  const AttentionDesc desc{.dtype = DType::kBF16, .q_heads = 1, .kv_heads = 1, .head_dim = 64};
  const std::vector<bf16_t> q(64 * 2, f32_to_bf16(0.5f));
  for (Isa isa : attention_isas(desc)) {
    for (int64_t rows : {1, 2}) {
      std::vector<bf16_t> out(64 * 2);
      const AttentionSpan span{
          .rows = rows, .query_offset = 192 - rows, .page_table = table.data()};
      const AlignedBytes workspace =
          aligned_bytes(attention_workspace_bytes(desc, rows, 1, 192, 1));
      run_attention({.pool = pool},
                    {.q = q.data(),
                     .q_row_stride = 64,
                     .out = out.data(),
                     .pages = pages,
                     .q_heads = 1,
                     .scale = 0.125f,
                     .spans = {&span, 1},
                     .workspace = workspace.get()},
                    isa);
      EXPECT_NEAR(bf16_to_f32(out[(rows - 1) * 64]), 1.0, 0.01);  // (0 + 1 + 2) / 3
    }
  }
  ::munmap(memory, bytes);
}

TEST(PagedAttention, CancelledRunsReturnEarly) {
  const AttentionProblem problem({.spans = {{200, 0}, {1, 500}}}, DType::kBF16);
  ThreadPool pool(2);
  CancelToken cancel;
  cancel.cancel();
  for (Isa isa : attention_isas(problem.desc())) {
    AttentionResult found = problem.empty_result();
    const std::vector<std::byte> untouched = found.out;
    problem.run({.pool = pool, .cancel = &cancel}, problem.spans(), &isa, false, found);
    EXPECT_EQ(found.scored, std::vector<uint64_t>(2));
    EXPECT_EQ(found.out, untouched);
  }
}

TEST(PagedAttention, RefusesShapesThatDoNotFit) {
  ThreadPool pool(1);
  AttentionArgs args{
      .pages = {.dtype = DType::kBF16, .kv_heads = 2, .head_dim = 64}, .q_heads = 3, .scale = 1};
  EXPECT_THROW(run_attention({.pool = pool}, args), Error);
  args.q_heads = 4;
  args.scale = -1;
  EXPECT_THROW(run_attention({.pool = pool}, args), Error);
  args.scale = 1;
  args.pages.dtype = DType::kF16;
  EXPECT_THROW(run_attention({.pool = pool}, args), Error);
}

TEST(PagedAttention, NamesItsImplementations) {
  const AttentionDesc desc{.dtype = DType::kF32, .q_heads = 1, .kv_heads = 1, .head_dim = 64};
  EXPECT_EQ(attention_implementation(desc, Isa::kScalar), "paged_attention_ref");
  if (!cpu_supports(Isa::kAvx512)) GTEST_SKIP() << "no AVX-512 here";
  EXPECT_EQ(attention_implementation(desc), "paged_attention_avx512");
}

}  // namespace
}  // namespace kvasir::kernels

#include "kernels/antidiagonal/antidiagonal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/numeric.h"
#include "kernels/paged_attention_problem.h"

namespace kvasir::kernels {
namespace {

constexpr int64_t kGap = 3;  // between rows of masses; stays as it is

struct Masses {
  std::vector<float> values;  // [heads, tiles, blocks + kGap]
  int64_t tiles = 0, blocks = 0;

  float at(size_t head, int64_t tile, int64_t block) const {
    return values[static_cast<size_t>(
        (static_cast<int64_t>(head) * tiles + tile) * (blocks + kGap) + block)];
  }
};

std::vector<int32_t> heads_of(const AttentionShape& shape, int kv_head) {
  std::vector<int32_t> heads(static_cast<size_t>(shape.q_heads / shape.kv_heads));
  std::iota(heads.begin(), heads.end(), kv_head * static_cast<int>(heads.size()));
  return heads;
}

// The masses of the first span; `isa` null: the reference.
Masses masses_of(const AttentionProblem& problem, int kv_head, const std::vector<int32_t>& heads,
                 int stride, const Isa* isa, int threads = 1) {
  ThreadPool pool(threads);
  const CpuContext context{.pool = pool};
  const AttentionSpan span = problem.spans()[0];
  const AttentionShape& shape = problem.shape();
  const int64_t length = span.query_offset + span.rows;
  Masses masses{.tiles = (span.rows + 127) / 128, .blocks = (length + 127) / 128};
  masses.values.assign(heads.size() * static_cast<size_t>(masses.tiles * (masses.blocks + kGap)),
                       -7.0f);
  const AlignedBytes workspace = aligned_bytes(antidiagonal_workspace_bytes(
      static_cast<int>(heads.size()), shape.head_dim, stride, span.rows, length, threads));
  const AntidiagonalArgs args{.q = problem.q(),
                              .q_row_stride = problem.q_stride(),
                              .rows = span.rows,
                              .query_offset = span.query_offset,
                              .pages = {.base = const_cast<std::byte*>(problem.pool()),
                                        .page_bytes = problem.page_bytes(),
                                        .dtype = problem.dtype(),
                                        .kv_heads = shape.kv_heads,
                                        .head_dim = shape.head_dim},
                              .page_table = span.page_table,
                              .kv_head = kv_head,
                              .heads = heads,
                              .scale = 1 / std::sqrt(static_cast<float>(shape.head_dim)),
                              .stride = stride,
                              .masses = masses.values.data(),
                              .mass_row_stride = masses.blocks + kGap,
                              .workspace = workspace.get()};
  if (isa)
    run_antidiagonal(context, args, *isa);
  else
    run_antidiagonal_reference(context, args);
  return masses;
}

const AttentionShape kShapes[] = {
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{1, 0}}},
    {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{1, 700}}},
    {.q_heads = 4, .kv_heads = 2, .head_dim = 64, .spans = {{13, 0}}, .query_scale = 4},
    {.q_heads = 4, .kv_heads = 2, .head_dim = 96, .spans = {{130, 1}}, .query_scale = 5},
    {.q_heads = 6, .kv_heads = 2, .head_dim = 64, .spans = {{256, 0}}, .query_scale = 8},
    {.q_heads = 7, .kv_heads = 1, .head_dim = 128, .spans = {{300, 5}}, .q_row_gap = 32},
    {.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{100, 1411}}, .page_gap_bytes = 64},
    {.q_heads = 2, .kv_heads = 2, .head_dim = 80, .spans = {{512, 640}}, .query_scale = 6},
    {.q_heads = 2, .kv_heads = 1, .head_dim = 256, .spans = {{30, 1045}}, .query_scale = 8},
    {.q_heads = 3, .kv_heads = 1, .head_dim = 37, .spans = {{513, 0}}, .key_mean = 1},
    {.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{200, 1900}}, .key_growth = 0.01f},
};

TEST(Antidiagonal, EqualsTheReferenceOnEveryInstructionSet) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const AttentionShape& shape : kShapes)
      for (const int stride : {8, 16}) {
        const AttentionProblem problem(shape, dtype);
        SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << " d " << shape.head_dim
                                          << " rows " << shape.spans[0].rows << " after "
                                          << shape.spans[0].query_offset << " stride " << stride);
        const int kv_head = shape.kv_heads - 1;
        const auto heads = heads_of(shape, kv_head);
        const Masses expected = masses_of(problem, kv_head, heads, stride, nullptr);
        for (const Isa isa : kvasir::testing::present_isas()) {
          SCOPED_TRACE(isa_name(isa));
          const Masses found = masses_of(problem, kv_head, heads, stride, &isa);
          // Masses are at most 16, and f32 scores of magnitude 20 have errors of about 1e-5.
          for (size_t i = 0; i < expected.values.size(); ++i)
            ASSERT_NEAR(found.values[i], expected.values[i],
                        3e-5 * (1 + std::abs(expected.values[i])))
                << i;
        }
      }
}

// With groups of one query and one key the estimate is the attention itself.
TEST(Antidiagonal, StrideOneIsTheExactMassOfBlocks) {
  const AttentionProblem problem(
      {.q_heads = 2, .kv_heads = 1, .head_dim = 24, .spans = {{201, 130}}, .query_scale = 4},
      DType::kF32);
  const Masses found = masses_of(problem, 0, {1, 0}, 1, nullptr);
  const auto* q = reinterpret_cast<const float*>(problem.q());
  for (size_t head = 0; head < 2; ++head) {
    std::vector<double> masses(static_cast<size_t>(found.tiles * found.blocks));
    for (int64_t row = 0; row < 201; ++row) {
      std::vector<double> shares;
      double sum = 0;
      for (int64_t key = 0; key <= 130 + row; ++key) {
        const auto* k = reinterpret_cast<const float*>(
                            problem.pool() + problem.table(0)[static_cast<size_t>(key / 64)] *
                                                 problem.page_bytes()) +
                        key % 64 * 24;
        double score = 0;
        for (int64_t i = 0; i < 24; ++i)
          score += double{q[row * problem.q_stride() + (head == 0 ? 24 : 0) + i]} * k[i];
        shares.push_back(std::exp(score / std::sqrt(24.0)));
        sum += shares.back();
      }
      for (size_t key = 0; key < shares.size(); ++key)
        masses[static_cast<size_t>(row / 128 * found.blocks) + key / 128] += shares[key] / sum;
    }
    for (int64_t i = 0; i < std::ssize(masses); ++i)
      EXPECT_NEAR(found.at(head, i / found.blocks, i % found.blocks),
                  masses[static_cast<size_t>(i)], 1e-4);
  }
}

TEST(Antidiagonal, EveryQueryGroupIsSharedOutOnce) {
  for (const AttentionShape& shape : kShapes)
    for (const int stride : {8, 16}) {
      const AttentionProblem problem(shape, DType::kBF16);
      const auto heads = heads_of(shape, 0);
      const Masses masses = masses_of(problem, 0, heads, stride, &kEveryIsa);
      for (size_t head = 0; head < heads.size(); ++head)
        for (int64_t tile = 0; tile < masses.tiles; ++tile) {
          const int64_t rows = std::min<int64_t>(128, shape.spans[0].rows - tile * 128);
          double sum = 0;
          for (int64_t block = 0; block < masses.blocks; ++block)
            sum += masses.at(head, tile, block);
          EXPECT_NEAR(sum, static_cast<double>((rows + stride - 1) / stride), 1e-4);
          for (int64_t i = 0; i < kGap; ++i)
            EXPECT_EQ(masses.at(head, tile, masses.blocks + i), -7.0f);
        }
    }
}

// A span whose queries look at one column, or follow one diagonal; the share of a tile's mass in a
// range of blocks.
class Lines {
 public:
  Lines(int stride, uint32_t seed)
      : stride_(stride),
        problem_({.q_heads = 1, .kv_heads = 1, .head_dim = kDim, .spans = {{512, 0}}, .seed = seed},
                 DType::kF32) {}

  void look_at(int64_t column) {
    for (int64_t row = 0; row < 512; ++row)
      for (int i = 0; i < kDim; ++i) query(row)[i] += 1;
    std::fill_n(key(column), kDim, 0.75f * static_cast<float>(stride_));
  }
  void follow(int64_t offset) {
    for (int64_t row = offset; row < 512; ++row)
      for (int i = 0; i < kDim; ++i)
        query(row)[i] = 0.5f * static_cast<float>(stride_) * key(row - offset)[i];
  }
  double share(int64_t tile, int64_t first, int64_t last) const {
    const Masses masses = masses_of(problem_, 0, {0}, stride_, &kEveryIsa);
    double there = 0, all = 0;
    for (int64_t block = 0; block < masses.blocks; ++block) {
      all += masses.at(0, tile, block);
      if (block >= first && block <= last) there += masses.at(0, tile, block);
    }
    return there / all;
  }

 private:
  static constexpr int kDim = 256;

  float* query(int64_t row) {
    return reinterpret_cast<float*>(const_cast<std::byte*>(problem_.q())) +
           row * problem_.q_stride();
  }
  float* key(int64_t position) {
    return reinterpret_cast<float*>(const_cast<std::byte*>(problem_.pool()) +
                                    problem_.table(0)[static_cast<size_t>(position / 64)] *
                                        problem_.page_bytes()) +
           position % 64 * kDim;
  }

  int stride_;
  AttentionProblem problem_;
};

TEST(Antidiagonal, ColumnsStandOutAtEveryPosition) {
  for (const int stride : {8, 16})
    for (int64_t shift = 0; shift < 16; ++shift) {
      SCOPED_TRACE(::testing::Message() << stride << ", " << shift);
      Lines lines(stride, 100 + static_cast<uint32_t>(shift));
      lines.look_at(128 + 40 + shift);
      EXPECT_GT(lines.share(2, 1, 1), 0.8);
      EXPECT_GT(lines.share(3, 1, 1), 0.8);
    }
}

// Where the stride is even, an antidiagonal's distances are odd.
TEST(Antidiagonal, DiagonalsAtOddOffsetsStandOutAndAtEvenOnesDoNot) {
  for (const int stride : {8, 16})
    for (int64_t shift = 0; shift < 16; ++shift) {
      SCOPED_TRACE(::testing::Message() << stride << ", " << shift);
      const auto seed = 100 + static_cast<uint32_t>(shift);
      Lines with(stride, seed);
      with.follow(256 + shift);
      if (shift % 2 == 1)
        EXPECT_GT(with.share(3, 0, 1), 0.8);
      else
        EXPECT_LT(with.share(3, 0, 1), 0.75);
    }
}

TEST(Antidiagonal, BitsDependNeitherOnHeadsBesideNorOnThreads) {
  const AttentionShape shape{
      .q_heads = 5, .kv_heads = 1, .head_dim = 96, .spans = {{420, 3000}}, .query_scale = 4};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const AttentionProblem problem(shape, dtype);
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmxBf16}) {
      if (!cpu_supports(isa)) continue;
      const Masses all = masses_of(problem, 0, {0, 1, 2, 3, 4}, 8, &isa);
      for (const int threads : {2, 3})
        EXPECT_EQ(masses_of(problem, 0, {0, 1, 2, 3, 4}, 8, &isa, threads).values, all.values);
      const Masses picked = masses_of(problem, 0, {4, 1}, 8, &isa, 2);
      for (const auto& [at, head] : {std::pair{0, 4}, std::pair{1, 1}})
        for (int64_t tile = 0; tile < all.tiles; ++tile)
          for (int64_t block = 0; block < all.blocks; ++block)
            ASSERT_EQ(picked.at(static_cast<size_t>(at), tile, block),
                      all.at(static_cast<size_t>(head), tile, block));
    }
  }
}

// Rows of a later span are the rows of a longer one, where their groups begin at the same places.
TEST(Antidiagonal, ChunksEqualTheWhole) {
  const AttentionProblem whole(
      {.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{900, 0}}, .query_scale = 5},
      DType::kBF16);
  const Masses expected = masses_of(whole, 0, {0, 1}, 8, &kEveryIsa);
  ThreadPool pool(1);
  for (const int64_t first : {128, 384, 768}) {
    std::vector<float> found(static_cast<size_t>(2 * ((900 - first + 127) / 128) * 8));
    const AlignedBytes workspace =
        aligned_bytes(antidiagonal_workspace_bytes(2, 64, 8, 900 - first, 900, 1));
    const std::vector<int32_t> heads{0, 1};
    run_antidiagonal({.pool = pool}, {.q = whole.q() + first * whole.q_stride() * 2,
                                      .q_row_stride = whole.q_stride(),
                                      .rows = 900 - first,
                                      .query_offset = first,
                                      .pages = {.base = const_cast<std::byte*>(whole.pool()),
                                                .page_bytes = whole.page_bytes(),
                                                .dtype = DType::kBF16,
                                                .kv_heads = 1,
                                                .head_dim = 64},
                                      .page_table = whole.table(0).data(),
                                      .heads = heads,
                                      .scale = 0.125f,
                                      .masses = found.data(),
                                      .mass_row_stride = 8,
                                      .workspace = workspace.get()});
    const int64_t tiles = (900 - first + 127) / 128;
    for (size_t head = 0; head < 2; ++head)
      for (int64_t tile = 0; tile < tiles; ++tile)
        for (int64_t block = 0; block < 8; ++block)
          ASSERT_EQ(
              found[head * static_cast<size_t>(tiles * 8) + static_cast<size_t>(tile * 8 + block)],
              expected.at(head, first / 128 + tile, block));
  }
}

}  // namespace
}  // namespace kvasir::kernels

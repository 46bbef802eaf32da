#include "kernels/rms_norm/rms_norm.h"

#include <string>

#include "kernels/numeric.h"
#include "kvasir/error.h"

namespace kvasir::kernels {
namespace {

using namespace kvasir::testing;

class RmsNorm : public ::testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Every, RmsNorm, ::testing::ValuesIn(present_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

struct Problem {
  Problem(int64_t rows, int64_t size, DType y_dtype, float scale = 1, int64_t gap = 0)
      : rows(rows),
        size(size),
        gap(gap),
        y_dtype(y_dtype),
        x(normal_values(rows * size, 1, scale)),
        weight(normal_values(size, 2)) {}
  RmsNormArgs args(Matrix& y) const {
    return {.x = x.data(),
            .weight = weight.data(),
            .y = y.data(),
            .y_dtype = y_dtype,
            .y_row_stride = y.stride(),
            .rows = y.rows(),
            .size = size,
            .eps = 1e-5f};
  }
  Matrix empty(int64_t count) const { return Matrix(count, size, size + gap, y_dtype); }

  int64_t rows, size, gap;  // gap: elements between the rows of y
  DType y_dtype;
  std::vector<float> x, weight;
};

TEST_P(RmsNorm, AgreesWithTheReference) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t size : {1, 7, 8, 16, 17, 63, 64, 100, 384, 1000, 2048, 4099})
      for (const int64_t rows : {1, 3, 67})
        for (const float scale : {1e-4f, 1.0f, 1e6f}) {
          SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(size) + " scale " +
                       std::to_string(scale));
          const Problem problem(rows, size, dtype, scale, size % 5);
          Matrix y = problem.empty(rows), expected = problem.empty(rows);
          run_rms_norm({.pool = pool}, problem.args(y), GetParam());
          run_rms_norm_reference({.pool = pool}, problem.args(expected));
          expect_close(y, expected, bounds_of(dtype));
        }
}

TEST_P(RmsNorm, AddsToWhatIsThere) {
  ThreadPool pool(2);
  for (const int64_t size : {1, 7, 17, 64, 100, 1000}) {
    SCOPED_TRACE(size);
    const Problem problem(5, size, DType::kF32, 1, size % 5);
    Matrix alone = problem.empty(5), sum = problem.empty(5);
    run_rms_norm_reference({.pool = pool}, problem.args(alone));
    Matrix expected = problem.empty(5);
    for (int64_t row = 0; row < 5; ++row)
      for (int64_t i = 0; i < size; ++i) {
        const float before = static_cast<float>(row) - static_cast<float>(i % 3);
        sum.set(row, i, before);
        expected.set(row, i, before + alone.at(row, i));
      }
    RmsNormArgs args = problem.args(sum);
    args.accumulate = true;
    run_rms_norm({.pool = pool}, args, GetParam());
    expect_close(sum, expected, bounds_of(DType::kF32));
  }
}

TEST_P(RmsNorm, GathersRows) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Problem problem(50, 96, dtype);
    Matrix all = problem.empty(50);
    run_rms_norm({.pool = pool}, problem.args(all), GetParam());
    const std::vector<int32_t> index = {49, 0, 7, 7, 31};
    Matrix some = problem.empty(static_cast<int64_t>(index.size()));
    RmsNormArgs args = problem.args(some);
    args.row_index = index.data();
    run_rms_norm({.pool = pool}, args, GetParam());
    for (size_t i = 0; i < index.size(); ++i)
      EXPECT_EQ(std::memcmp(some.row(static_cast<int64_t>(i)), all.row(index[i]),
                            96 * dtype_bytes(dtype)),
                0)
          << i;
  }
}

TEST_P(RmsNorm, RowsDoNotDependOnTheBatchOrTheThreads) {
  ThreadPool one(1), three(3);
  const Problem problem(300, 390, DType::kF32);
  Matrix together = problem.empty(300), threaded = problem.empty(300);
  run_rms_norm({.pool = one}, problem.args(together), GetParam());
  run_rms_norm({.pool = three}, problem.args(threaded), GetParam());
  EXPECT_EQ(std::memcmp(together.data(), threaded.data(), 300 * 390 * 4), 0);
  for (int64_t row = 0; row < 300; ++row) {
    Matrix alone = problem.empty(1);
    RmsNormArgs args = problem.args(alone);
    args.x += row * 390;
    run_rms_norm({.pool = one}, args, GetParam());
    ASSERT_EQ(std::memcmp(alone.data(), together.row(row), 390 * 4), 0) << row;
  }
}

TEST_P(RmsNorm, ZeroRowsAreFineAndAZeroRowStaysZero) {
  ThreadPool pool(1);
  Problem problem(1, 40, DType::kF32);
  Matrix none = problem.empty(0);
  run_rms_norm({.pool = pool}, problem.args(none), GetParam());
  std::fill(problem.x.begin(), problem.x.end(), 0.0f);
  Matrix y = problem.empty(1);
  run_rms_norm({.pool = pool}, problem.args(y), GetParam());
  for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(y.at(0, i), 0);
}

TEST(RmsNormErrors, OutputsOfWrongDtype) {
  ThreadPool pool(1);
  const Problem problem(1, 8, DType::kBF16);
  Matrix y = problem.empty(1);
  RmsNormArgs args = problem.args(y);
  args.y_dtype = DType::kF16;
  EXPECT_THROW(run_rms_norm({.pool = pool}, args), Error);
  args.y_dtype = DType::kBF16;
  args.accumulate = true;
  EXPECT_THROW(run_rms_norm({.pool = pool}, args), Error);
}

}  // namespace
}  // namespace kvasir::kernels

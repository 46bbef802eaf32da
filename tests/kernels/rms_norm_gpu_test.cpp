#include "kernels/gpu.h"
#include "kernels/numeric.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace kvasir {
namespace {

using testing::DeviceArray;
using testing::Matrix;

constexpr float kEps = 1e-5f;

struct Problem {
  Problem(int64_t rows, int64_t size, DType y_dtype, float scale = 1)
      : rows(rows),
        size(size),
        y_dtype(y_dtype),
        x(testing::normal_values(rows * size, 1, scale)),
        weight(testing::normal_values(size, 2)),
        x_on_device(x),
        weight_on_device(weight) {}

  // Row i of y is the norm of x's row index[i]; or is added to what is there `before`.
  Matrix run(const cuda::Context& context, const std::vector<int32_t>& index = {},
             const Matrix* before = nullptr) const {
    Matrix y = before ? *before : Matrix(y_rows(index), size, size, y_dtype);
    DeviceArray<std::byte> y_on_device(y.bytes());
    const DeviceArray<int32_t> index_on_device(index);
    kernels::run_rms_norm(context, {.x = x_on_device.data(),
                                    .weight = weight_on_device.data(),
                                    .y = y_on_device.data(),
                                    .y_dtype = y_dtype,
                                    .rows = y.rows(),
                                    .size = size,
                                    .eps = kEps,
                                    .row_index = index.empty() ? nullptr : index_on_device.data(),
                                    .accumulate = before != nullptr});
    const std::vector<std::byte> found = y_on_device.read();
    std::memcpy(y.data(), found.data(), found.size());
    return y;
  }
  // In f32, rounded once.
  Matrix reference(const std::vector<int32_t>& index = {}, const Matrix* before = nullptr) const {
    Matrix wide = before ? *before : Matrix(y_rows(index), size, size, DType::kF32);
    ThreadPool pool(1);
    kernels::run_rms_norm_reference({.pool = pool},
                                    {.x = x.data(),
                                     .weight = weight.data(),
                                     .y = wide.data(),
                                     .y_dtype = DType::kF32,
                                     .y_row_stride = size,
                                     .rows = wide.rows(),
                                     .size = size,
                                     .eps = kEps,
                                     .row_index = index.empty() ? nullptr : index.data(),
                                     .accumulate = before != nullptr});
    Matrix y(wide.rows(), size, size, y_dtype);
    for (int64_t i = 0; i < y.rows(); ++i)
      for (int64_t j = 0; j < size; ++j) y.set(i, j, wide.at(i, j));
    return y;
  }
  int64_t y_rows(const std::vector<int32_t>& index) const {
    return index.empty() ? rows : std::ssize(index);
  }

  int64_t rows, size;
  DType y_dtype;
  std::vector<float> x, weight;
  DeviceArray<float> x_on_device, weight_on_device;
};

using RmsNorm = testing::GpuTest;

TEST_F(RmsNorm, AgreesWithTheReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const int64_t size : {4, 8, 12, 100, 384, 1000, 4096, 5000, 16384, 16900})
      for (const int64_t rows : {1, 3, 33})
        for (const float scale : {1e-4f, 1.0f, 1e6f}) {
          SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << rows << " x " << size
                                            << ", scale " << scale);
          if (rows == 33 && (size > 4096 || scale != 1)) continue;
          const Problem problem(rows, size, dtype, scale);
          testing::expect_close(problem.run(context_), problem.reference(),
                                testing::bounds_of(dtype));
        }
}

TEST_F(RmsNorm, GathersRows) {
  const std::vector<int32_t> index{4, 0, 4, 6};
  for (const int64_t size : {96, 17000}) {
    const Problem problem(7, size, DType::kBF16);
    testing::expect_close(problem.run(context_, index), problem.reference(index),
                          testing::bounds_of(DType::kBF16));
  }
}

TEST_F(RmsNorm, Accumulates) {
  for (const int64_t size : {96, 17000}) {
    const Problem problem(3, size, DType::kF32);
    const Matrix before(3, size, size, DType::kF32, 9);
    testing::expect_close(problem.run(context_, {}, &before), problem.reference({}, &before),
                          testing::bounds_of(DType::kF32));
  }
}

TEST_F(RmsNorm, ARowsBitsDoNotDependOnItsBatch) {
  const Problem problem(40, 4096, DType::kF32);
  const Matrix all = problem.run(context_);
  for (const int32_t row : {0, 17, 39}) {
    const Matrix alone = problem.run(context_, {row});
    EXPECT_EQ(std::memcmp(alone.row(0), all.row(row), 4096 * 4), 0) << "row " << row;
  }
}

TEST_F(RmsNorm, NoRows) {
  const Problem problem(0, 64, DType::kBF16);
  problem.run(context_);
  synchronize();
}

}  // namespace
}  // namespace kvasir

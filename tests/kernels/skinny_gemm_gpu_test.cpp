#include <cmath>
#include <ostream>

#include "kernels/gemm/skinny_gemm_cuda.h"
#include "kernels/gpu.h"
#include "kernels/numeric.h"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace kvasir {
namespace {

using kernels::Epilogue;
using testing::DeviceArray;
using testing::Matrix;

struct Case {
  int64_t m, n, k;
  DType dtype = DType::kBF16;
  Epilogue epilogue = Epilogue::kStore;
  DType c_dtype = DType::kF32;
  bool has_bias = false;
  int64_t gap = 0;  // elements between rows of A and of C
};

void PrintTo(const Case& c, std::ostream* out) {
  constexpr const char* kNames[] = {"store", "add", "silu mul"};
  *out << c.m << " x " << c.n << " x " << c.k << ", " << dtype_name(c.dtype) << " to "
       << dtype_name(c.c_dtype) << ", " << kNames[static_cast<int>(c.epilogue)]
       << (c.has_bias ? ", bias" : "") << ", gap " << c.gap;
}

// Outputs have about unit variance.
struct Problem {
  explicit Problem(const Case& c)
      : c(c),
        columns(c.epilogue == Epilogue::kSiluMul ? c.n / 2 : c.n),
        a(c.m, c.k, c.k + 8 * c.gap, c.dtype, 1),
        weight(c.n, c.k, c.k, c.dtype, 2, 1 / std::sqrt(static_cast<float>(c.k))),
        bias(testing::normal_values(c.n, 3)),
        before(c.epilogue == Epilogue::kAdd ? Matrix(c.m, columns, columns + c.gap, c.c_dtype, 4)
                                            : Matrix(c.m, columns, columns + c.gap, c.c_dtype)),
        a_on_device(a.bytes()),
        weight_on_device(weight.bytes()),
        bias_on_device(bias),
        c_on_device(before.bytes()) {}

  // The product of `rows` rows of A from `first` on.
  Matrix run(const cuda::Context& context, int64_t first, int64_t rows) const {
    c_on_device.write(before.bytes());
    const auto size = static_cast<int64_t>(dtype_bytes(c.dtype));
    const auto c_size = static_cast<int64_t>(dtype_bytes(c.c_dtype));
    kernels::run_skinny_gemm(context, {.dtype = c.dtype,
                                       .a = a_on_device.data() + first * a.stride() * size,
                                       .a_row_stride = a.stride(),
                                       .m = rows,
                                       .weight = weight_on_device.data(),
                                       .n = c.n,
                                       .k = c.k,
                                       .bias = c.has_bias ? bias_on_device.data() : nullptr,
                                       .epilogue = c.epilogue,
                                       .c = c_on_device.data() + first * before.stride() * c_size,
                                       .c_dtype = c.c_dtype,
                                       .c_row_stride = before.stride()});
    Matrix out = before;
    const std::vector<std::byte> found = c_on_device.read();
    std::memcpy(out.data(), found.data(), found.size());
    return out;
  }
  Matrix run(const cuda::Context& context) const { return run(context, 0, c.m); }

  double sum(int64_t row, int64_t output) const {
    double value = c.has_bias ? bias[output] : 0;
    for (int64_t i = 0; i < c.k; ++i) value += double{a.at(row, i)} * weight.at(output, i);
    return value;
  }
  Matrix reference() const {
    Matrix out = before;
    for (int64_t row = 0; row < c.m; ++row)
      for (int64_t j = 0; j < columns; ++j) {
        double value = sum(row, j);
        if (c.epilogue == Epilogue::kSiluMul)
          value = value / (1 + std::exp(-value)) * sum(row, columns + j);
        if (c.epilogue == Epilogue::kAdd) value += before.at(row, j);
        out.set(row, j, static_cast<float>(value));
      }
    return out;
  }

  Case c;
  int64_t columns;
  Matrix a, weight;
  std::vector<float> bias;
  Matrix before;  // C
  DeviceArray<std::byte> a_on_device, weight_on_device;
  DeviceArray<float> bias_on_device;
  mutable DeviceArray<std::byte> c_on_device;
};

// Tensor cores cut off bits of what they add to a sum in f32, so the sums are off by up to 2^-23 of
// their size for each 16 terms in a chain.
testing::Bounds bounds_of(DType dtype) {
  return dtype == DType::kF32 ? testing::Bounds{1e-10, 1e-4} : testing::bounds_of(dtype);
}

class SkinnyGemm : public testing::GpuTest {
 protected:
  void expect_right(const Case& c) {
    SCOPED_TRACE(::testing::PrintToString(c));
    const Problem problem(c);
    testing::expect_close(problem.run(context_), problem.reference(), bounds_of(c.c_dtype));
  }
};

TEST_F(SkinnyGemm, EveryShape) {
  const Case cases[] = {{1, 1, 8},     {1, 16, 64},    {3, 17, 40},    {8, 33, 136},
                        {9, 64, 72},   {16, 50, 1000}, {17, 129, 264}, {32, 96, 520},
                        {5, 384, 384}, {32, 31, 8},    {2, 130, 2056}, {24, 48, 128}};
  for (Case c : cases)
    for (const int64_t gap : {0, 3}) {
      c.gap = gap;
      expect_right(c);
    }
}

// More rows of weights than one tile a multiprocessor: every height of tiles, and several a CTA.
TEST_F(SkinnyGemm, ManyRowsOfWeights) {
  const int64_t one_each = int64_t{16} * context_.multiprocessors;
  for (const int64_t n : {one_each + 1, 2 * one_each + 40, 4 * one_each - 3, 9 * one_each + 7})
    for (const int64_t m : {1, 12, 32}) expect_right({.m = m, .n = n, .k = m == 1 ? 200 : 24});
}

TEST_F(SkinnyGemm, EveryEpilogueAndType) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const bool has_bias : {false, true})
      for (const int64_t m : {1, 7, 32}) {
        Case c{.m = m, .n = 70, .k = 200, .dtype = dtype, .has_bias = has_bias, .gap = 5};
        c.epilogue = Epilogue::kAdd;
        expect_right(c);
        for (const DType c_dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
          c.c_dtype = c_dtype;
          for (const Epilogue epilogue : {Epilogue::kStore, Epilogue::kSiluMul}) {
            c.epilogue = epilogue;
            expect_right(c);
          }
        }
      }
}

TEST_F(SkinnyGemm, InfinitiesStayInTheirRow) {
  Problem problem({.m = 9, .n = 40, .k = 200});
  problem.a.set(4, 7, std::numeric_limits<float>::infinity());
  problem.a_on_device.write(problem.a.bytes());
  const Matrix found = problem.run(context_);
  for (int64_t row = 0; row < 9; ++row)
    for (int64_t j = 0; j < 40; ++j) EXPECT_EQ(std::isfinite(found.at(row, j)), row != 4);
}

void expect_same_bits(const Matrix& found, const Matrix& expected, int64_t first, int64_t rows) {
  const size_t bytes = expected.columns() * dtype_bytes(expected.dtype());
  for (int64_t row = first; row < first + rows; ++row)
    ASSERT_EQ(std::memcmp(found.row(row), expected.row(row), bytes), 0) << "row " << row;
}

TEST_F(SkinnyGemm, ARowsBitsDoNotDependOnItsBatch) {
  for (const int64_t n : {40, 2200, 10000}) {
    const Problem problem({.m = 32, .n = n, .k = 776, .has_bias = true});
    const Matrix all = problem.run(context_);
    for (const int64_t rows : {1, 2, 7, 8, 9, 16, 17, 31})
      for (const int64_t first : {int64_t{0}, 32 - rows}) {
        SCOPED_TRACE(::testing::Message() << "n " << n << ", rows " << first << " + " << rows);
        expect_same_bits(problem.run(context_, first, rows), all, first, rows);
      }
  }
}

// A chain of kernels in which each begins while the one before still runs.
TEST_F(SkinnyGemm, OverlappingKernelsWaitForEachOther) {
  constexpr int64_t kRows = 3, kHidden = 512, kInner = 1096;
  const auto weights = [](int64_t n, int64_t k, uint32_t seed) {
    return DeviceArray<std::byte>(
        Matrix(n, k, k, DType::kBF16, seed, 1 / std::sqrt(static_cast<float>(k))).bytes());
  };
  const auto up = weights(2 * kInner, kHidden, 1), down = weights(kHidden, kInner, 2);
  const std::vector<float> start = testing::normal_values(kRows * kHidden, 3);
  const DeviceArray<float> norm(testing::normal_values(kHidden, 4));
  DeviceArray<float> x(start);
  const DeviceArray<uint16_t> normed(kRows * kHidden), inner(kRows * kInner);
  const auto run = [&](bool overlap) {
    context_.overlap = overlap;
    x.write(start);
    for (int layer = 0; layer < 50; ++layer) {
      kernels::run_rms_norm(context_, {.x = x.data(),
                                       .weight = norm.data(),
                                       .y = normed.data(),
                                       .rows = kRows,
                                       .size = kHidden,
                                       .eps = 1e-5f});
      kernels::run_skinny_gemm(context_, {.a = normed.data(),
                                          .a_row_stride = kHidden,
                                          .m = kRows,
                                          .weight = up.data(),
                                          .n = 2 * kInner,
                                          .k = kHidden,
                                          .epilogue = Epilogue::kSiluMul,
                                          .c = inner.data(),
                                          .c_dtype = DType::kBF16,
                                          .c_row_stride = kInner});
      kernels::run_skinny_gemm(context_, {.a = inner.data(),
                                          .a_row_stride = kInner,
                                          .m = kRows,
                                          .weight = down.data(),
                                          .n = kHidden,
                                          .k = kInner,
                                          .epilogue = Epilogue::kAdd,
                                          .c = x.data(),
                                          .c_row_stride = kHidden});
    }
    return x.read();
  };
  const std::vector<float> alone = run(false);
  for (const float value : alone) ASSERT_TRUE(std::isfinite(value));
  for (int repetition = 0; repetition < 5; ++repetition) EXPECT_EQ(run(true), alone);
}

// Lengths of an 8B model's rows, some columns of each.
using FullSkinnyGemm = SkinnyGemm;

TEST_F(FullSkinnyGemm, LongRows) {
  const Case cases[] = {{1, 6144, 4096}, {32, 4096, 4096}, {3, 1024, 14336}};
  for (const Case& c : cases) {
    SCOPED_TRACE(::testing::PrintToString(c));
    const Problem problem(c);
    const Matrix found = problem.run(context_);
    double squares = 0, differences = 0;
    for (int64_t row = 0; row < c.m; ++row)
      for (int64_t j = row % 7; j < c.n; j += 97) {
        const double expected = problem.sum(row, j), difference = found.at(row, j) - expected;
        ASSERT_LE(std::abs(difference), 1e-4 * (1 + std::abs(expected))) << row << ", " << j;
        squares += expected * expected;
        differences += difference * difference;
      }
    EXPECT_LE(differences, 1e-10 * squares);
  }
}

}  // namespace
}  // namespace kvasir

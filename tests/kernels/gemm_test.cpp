#include "kernels/gemm/gemm.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <span>

#include "kernels/numeric.h"
#include "kvasir/error.h"

namespace kvasir::kernels {
namespace {

using namespace kvasir::testing;

struct Case {
  int64_t m, n, k;
  Epilogue epilogue = Epilogue::kStore;
  bool has_bias = false;
  DType c_dtype = DType::kF32;
  int64_t a_gap = 0;  // elements between the rows
  int64_t c_gap = 0;
};

void PrintTo(const Case& c, std::ostream* out) {
  constexpr const char* kNames[] = {"store", "add", "silu"};
  *out << "m=" << c.m << " n=" << c.n << " k=" << c.k << " " << kNames[static_cast<int>(c.epilogue)]
       << (c.has_bias ? " bias" : "") << " " << dtype_name(c.c_dtype) << " gaps " << c.a_gap << ","
       << c.c_gap;
}

WeightLayout layout_of(Epilogue epilogue) {
  return epilogue == Epilogue::kSiluMul ? WeightLayout::kGatePair : WeightLayout::kPlain;
}

// For kSiluMul, n counts the rows of gate and up together.
std::vector<Case> cases() {
  constexpr auto kAdd = Epilogue::kAdd;
  constexpr auto kSilu = Epilogue::kSiluMul;
  std::vector<Case> list = {
      {0, 64, 64},
      {3, 0, 64},
      {1, 1, 1},
      {2, 3, 1},
      {5, 64, 2},
      {1, 64, 31},
      {1, 65, 32},
      {1, 130, 33},
      {7, 63, 63},
      {4, 200, 1023},
      {2, 70, 1025},
      {9, 129, 2049},
      {1, 64, 4101},
      {34, 192, 1088},
      {70, 64, 2112},
      {3, 1, 96},
      {33, 17, 96, Epilogue::kStore, true, DType::kBF16, 7, 5},
      {16, 128, 100, Epilogue::kStore, true, DType::kBF16},
      {70, 191, 257, Epilogue::kStore, true, DType::kF32, 3, 9},
      {1, 300, 384, kAdd},
      {17, 77, 130, kAdd, true, DType::kF32, 1, 1},
      {48, 384, 1024, kAdd, true, DType::kF32, 64, 0},
      {300, 70, 65, kAdd},
      {260, 330, 1100, kAdd, true},
      {1, 2, 3, kSilu},
      {1, 128, 64, kSilu, false, DType::kBF16},
      {1, 320, 160, kSilu, true, DType::kBF16},
      {40, 130, 96, kSilu, true, DType::kF32, 3, 5},
      {6, 130, 77, kSilu, false, DType::kF32, 5, 6},
      {37, 190, 129, kSilu, false, DType::kBF16, 5, 6},
      {270, 256, 384, kSilu, false, DType::kBF16},
      {2, 66, 1601, kSilu, false, DType::kBF16, 8, 8},
  };
  for (int64_t m = 1; m <= 70; ++m)
    list.push_back({m, 96, 40 + m % 3, Epilogue::kStore, m % 2 == 0, DType::kF32, m % 5, m % 4});
  return list;
}

struct Problem {
  Problem(const Case& c, DType dtype, Isa isa)
      : c(c),
        desc{.dtype = dtype, .layout = layout_of(c.epilogue), .n = c.n, .k = c.k, .isa = isa},
        a(c.m, c.k, c.k + c.a_gap, dtype, 1),
        bias(normal_values(c.n, 2)),
        packed(packed_weight_bytes(desc)) {
    const Matrix w(c.n, c.k, c.k, dtype, 3, 1 / std::sqrt(static_cast<float>(c.k)));
    std::vector<WeightBlock> blocks = {{w.data(), dtype, c.n}};
    if (c.epilogue == Epilogue::kSiluMul)
      blocks = {{w.data(), dtype, c.n / 2}, {w.row(c.n / 2), dtype, c.n / 2}};
    pack_weight({.pool = pool}, desc, blocks, packed.data());
  }

  Matrix initial_c() const {
    const int64_t columns = c.epilogue == Epilogue::kSiluMul ? c.n / 2 : c.n;
    const int64_t stride = columns + c.c_gap;
    if (c.epilogue == Epilogue::kAdd) return Matrix(c.m, columns, stride, c.c_dtype, 4);
    return Matrix(c.m, columns, stride, c.c_dtype);
  }

  // Rows [first, first + rows) of the product, into the same rows of `out`.
  GemmArgs args(Matrix& out, int64_t first, int64_t rows) {
    return {.a = a.row(first),
            .a_row_stride = a.stride(),
            .m = rows,
            .desc = desc,
            .weight = packed.data(),
            .bias = c.has_bias ? bias.data() : nullptr,
            .epilogue = c.epilogue,
            .c = const_cast<std::byte*>(out.row(first)),
            .c_dtype = c.c_dtype,
            .c_row_stride = out.stride()};
  }
  Matrix product(ThreadPool& threads) {
    Matrix out = initial_c();
    run_gemm({.pool = threads}, args(out, 0, c.m));
    return out;
  }

  Case c;
  PackedDesc desc;
  ThreadPool pool{1};
  Matrix a;
  std::vector<float> bias;
  std::vector<std::byte> packed;
};

class GemmIsa : public ::testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Every, GemmIsa, ::testing::ValuesIn(present_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

TEST_P(GemmIsa, AgreesWithTheReference) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const Case& c : cases()) {
      SCOPED_TRACE(::testing::PrintToString(c) + " weights " + std::string(dtype_name(dtype)));
      Problem problem(c, dtype, GetParam());
      Matrix expected = problem.initial_c();
      run_gemm_reference({.pool = problem.pool}, problem.args(expected, 0, c.m));
      expect_close(problem.product(pool), expected, bounds_of(c.c_dtype));
      if (::testing::Test::HasFailure()) return;
    }
}

void expect_same_bits(const Matrix& x, const Matrix& y) {
  const size_t row_bytes = x.columns() * dtype_bytes(x.dtype());
  for (int64_t i = 0; i < x.rows(); ++i)
    ASSERT_EQ(std::memcmp(x.row(i), y.row(i), row_bytes), 0) << "row " << i;
}

TEST_P(GemmIsa, RowsDoNotDependOnTheBatchOrTheThreads) {
  ThreadPool one(1), two(2), three(3);
  const std::vector<Case> list = {
      {70, 200, 1100, Epilogue::kStore, true},
      {70, 96, 77, Epilogue::kAdd},
      {70, 200, 4130, Epilogue::kSiluMul, false, DType::kBF16},
      {530, 320, 130, Epilogue::kStore, false, DType::kBF16},
  };
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const Case& c : list) {
      SCOPED_TRACE(::testing::PrintToString(c) + " weights " + std::string(dtype_name(dtype)));
      Problem problem(c, dtype, GetParam());
      const Matrix together = problem.product(one);
      expect_same_bits(problem.product(two), together);
      expect_same_bits(problem.product(three), together);
      for (const int64_t batch : {1, 3, 7, 16, 33}) {
        Matrix apart = problem.initial_c();
        for (int64_t row = 0; row < c.m; row += batch)
          run_gemm({.pool = two}, problem.args(apart, row, std::min(batch, c.m - row)));
        expect_same_bits(apart, together);
      }
    }
}

TEST_P(GemmIsa, LargeGatesSaturateAndNanStaysInItsRow) {
  // One weight row of gate and of up, k = 1: gate is x, up is 1 (its weight) times x.
  ThreadPool pool(1);
  const PackedDesc desc{
      .dtype = DType::kF32, .layout = WeightLayout::kGatePair, .n = 2, .k = 2, .isa = GetParam()};
  const float gate[] = {1, 0}, up[] = {0, 1};
  std::vector<std::byte> packed(packed_weight_bytes(desc));
  const WeightBlock blocks[] = {{reinterpret_cast<const std::byte*>(gate), DType::kF32, 1},
                                {reinterpret_cast<const std::byte*>(up), DType::kF32, 1}};
  pack_weight({.pool = pool}, desc, blocks, packed.data());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float x[] = {300, 2, -300, 2, nan, 2, 0, 2, 50, 2, -50, 2};
  float c[6];
  run_gemm({.pool = pool}, {.a = x,
                            .a_row_stride = 2,
                            .m = 6,
                            .desc = desc,
                            .weight = packed.data(),
                            .epilogue = Epilogue::kSiluMul,
                            .c = c,
                            .c_row_stride = 1});
  EXPECT_FLOAT_EQ(c[0], 600);
  EXPECT_NEAR(c[1], 0, 1e-30);
  EXPECT_TRUE(std::isnan(c[2]));
  EXPECT_EQ(c[3], 0);
  EXPECT_FLOAT_EQ(c[4], 100);
  EXPECT_NEAR(c[5], -100 * std::exp(-50.0), 1e-25);
}

// A copy of some bytes whose last one is the last of a page, with no access to the next.
class Guarded {
 public:
  explicit Guarded(std::span<const std::byte> bytes) {
    const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    inside_ = (bytes.size() + page - 1) / page * page;
    mapped_ = inside_ + page;
    memory_ = static_cast<std::byte*>(
        ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(memory_ + inside_, page, PROT_NONE);
    data_ = memory_ + inside_ - bytes.size();
    std::copy(bytes.begin(), bytes.end(), data_);
  }
  ~Guarded() { ::munmap(memory_, mapped_); }
  std::byte* data() const { return data_; }

 private:
  size_t inside_, mapped_;
  std::byte* memory_;
  std::byte* data_;
};

TEST_P(GemmIsa, ReadsAndWritesNothingBehindItsOperands) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const int64_t k : {1, 31, 33, 96, 1027})
      for (const int64_t m : {1, 5, 16, 17, 41, 64}) {
        SCOPED_TRACE(std::to_string(m) + " rows, k = " + std::to_string(k));
        Problem problem({m, 70, k, Epilogue::kStore, true}, dtype, GetParam());
        const Matrix expected = problem.product(problem.pool);
        const auto bytes = [](const std::byte* data, size_t count) {
          return std::span<const std::byte>(data, count);
        };
        const size_t a_bytes = m * k * dtype_bytes(dtype);
        const Guarded a(bytes(problem.a.data(), a_bytes)), weight(problem.packed),
            bias(std::as_bytes(std::span(problem.bias))), c(bytes(expected.data(), m * 70 * 4));
        std::fill(c.data(), c.data() + m * 70 * 4, std::byte{0});
        run_gemm({.pool = problem.pool}, {.a = a.data(),
                                          .a_row_stride = k,
                                          .m = m,
                                          .desc = problem.desc,
                                          .weight = weight.data(),
                                          .bias = reinterpret_cast<const float*>(bias.data()),
                                          .c = c.data(),
                                          .c_row_stride = 70});
        ASSERT_EQ(std::memcmp(c.data(), expected.data(), m * 70 * 4), 0);
      }
}

// `bytes` of address space, zero until written.
class Reserved {
 public:
  explicit Reserved(size_t bytes)
      : bytes_(bytes),
        data_(static_cast<std::byte*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    ::madvise(data_, bytes, MADV_NOHUGEPAGE);
  }
  ~Reserved() { ::munmap(data_, bytes_); }
  std::byte* data() const { return data_; }
  bool valid() const { return data_ != MAP_FAILED; }

 private:
  size_t bytes_;
  std::byte* data_;
};

TEST_P(GemmIsa, RowsFurtherApartThan32BitsCount) {
  constexpr int64_t kRows = 40, kStride = int64_t{1} << 26, kSize = 64;
  static_assert((kRows - 1) * kStride > int64_t{1} << 31);
  Problem problem({kRows, kSize, kSize, Epilogue::kAdd}, DType::kBF16, GetParam());
  const Matrix expected = problem.product(problem.pool);
  const Reserved a(kRows * kStride * 2), c(kRows * kStride * 4);
  if (!a.valid() || !c.valid()) GTEST_SKIP() << "the system refuses the address space";
  const Matrix initial = problem.initial_c();
  for (int64_t i = 0; i < kRows; ++i) {
    std::memcpy(a.data() + i * kStride * 2, problem.a.row(i), kSize * 2);
    std::memcpy(c.data() + i * kStride * 4, initial.row(i), kSize * 4);
  }
  run_gemm({.pool = problem.pool}, {.a = a.data(),
                                    .a_row_stride = kStride,
                                    .m = kRows,
                                    .desc = problem.desc,
                                    .weight = problem.packed.data(),
                                    .epilogue = Epilogue::kAdd,
                                    .c = c.data(),
                                    .c_row_stride = kStride});
  for (int64_t i = 0; i < kRows; ++i)
    ASSERT_EQ(std::memcmp(c.data() + i * kStride * 4, expected.row(i), kSize * 4), 0) << i;
}

// Vector code alone: the scalar code takes seconds here.
std::vector<Isa> present_vector_isas() {
  std::vector<Isa> isas = present_isas();
  std::erase(isas, Isa::kScalar);
  return isas;
}
class GemmVectorIsa : public ::testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Every, GemmVectorIsa, ::testing::ValuesIn(present_vector_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

TEST_P(GemmVectorIsa, WeightsOfMoreThan32BitsOfBytes) {
  constexpr int64_t kSize = 256;
  constexpr int64_t kOutputs = (int64_t{1} << 31) / (kSize * 2) + 65;
  const PackedDesc desc{.n = kOutputs, .k = kSize, .isa = GetParam()};
  const size_t bytes = packed_weight_bytes(desc);
  ASSERT_GT(bytes, size_t{1} << 31);
  const Reserved weight(bytes);
  if (!weight.valid()) GTEST_SKIP() << "the system refuses the address space";
  // All zero but the last panel, which holds the one output of n = 64 p + 1.
  ThreadPool pool(2);
  const PackedDesc last{.n = 1, .k = kSize, .isa = GetParam()};
  const Matrix w(1, kSize, kSize, DType::kBF16, 5), a(1, kSize, kSize, DType::kBF16, 6);
  const WeightBlock block{w.data(), DType::kBF16, 1};
  pack_weight({.pool = pool}, last, {&block, 1}, weight.data() + bytes - packed_weight_bytes(last));
  std::vector<float> c(kOutputs, 1), row(kSize);
  run_gemm({.pool = pool}, {.a = a.data(),
                            .a_row_stride = kSize,
                            .m = 1,
                            .desc = desc,
                            .weight = weight.data(),
                            .c = c.data(),
                            .c_row_stride = kOutputs});
  float expected = 0;
  run_gemm({.pool = pool}, {.a = a.data(),
                            .a_row_stride = kSize,
                            .m = 1,
                            .desc = last,
                            .weight = weight.data() + bytes - packed_weight_bytes(last),
                            .c = &expected,
                            .c_row_stride = 1});
  EXPECT_EQ(c.back(), expected);
  EXPECT_NE(expected, 0);
  EXPECT_TRUE(std::all_of(c.begin(), c.end() - 1, [](float x) { return x == 0; }));
  unpack_weight_row(desc, weight.data(), kOutputs - 1, row.data());
  for (int64_t i = 0; i < kSize; ++i) ASSERT_EQ(row[i], w.at(0, i));
}

TEST(Gemm, StopsWhenCancelled) {
  Problem problem({1, 640, 64}, DType::kBF16, best_isa());
  CancelToken cancel;
  cancel.cancel();
  Matrix c = problem.initial_c();
  run_gemm({.pool = problem.pool, .cancel = &cancel}, problem.args(c, 0, 1));
  EXPECT_TRUE(std::isnan(c.at(0, 639)));
}

TEST(Gemm, RefusesWhatDoesNotBelongTogether) {
  Problem problem({1, 64, 64}, DType::kBF16, best_isa());
  Matrix c = problem.initial_c();
  const GemmArgs good = problem.args(c, 0, 1);
  const auto refused = [&](auto change) {
    GemmArgs args = good;
    change(args);
    try {
      run_gemm({.pool = problem.pool}, args);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  EXPECT_TRUE(refused([](GemmArgs& args) { args.epilogue = Epilogue::kSiluMul; }));
  EXPECT_TRUE(refused([](GemmArgs& args) { args.desc.layout = WeightLayout::kGatePair; }));
  EXPECT_TRUE(refused([](GemmArgs& args) { args.desc.dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](GemmArgs& args) { args.c_dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](GemmArgs& args) { args.m = -1; }));
  EXPECT_TRUE(refused([](GemmArgs& args) {
    args.epilogue = Epilogue::kAdd;
    args.c_dtype = DType::kBF16;
  }));
  EXPECT_FALSE(refused([](GemmArgs&) {}));
}

TEST(Gemm, EveryInstructionSetHasItsOwnImplementation) {
  for (const Isa isa : present_isas()) {
    const bool bf16_only = isa == Isa::kAvx512Bf16 || isa == Isa::kAmxBf16;
    const std::string expected = isa == Isa::kScalar       ? "gemm_ref"
                                 : isa == Isa::kAvx512Bf16 ? "gemm_avx512bf16"
                                 : isa == Isa::kAmxBf16    ? "gemm_amx"
                                                           : std::string("gemm_") + isa_name(isa);
    EXPECT_EQ(gemm_implementation({.dtype = DType::kBF16, .isa = isa}), expected);
    EXPECT_EQ(gemm_implementation({.dtype = DType::kF32, .isa = isa}),
              bf16_only ? "gemm_avx512" : expected);
  }
}

}  // namespace
}  // namespace kvasir::kernels

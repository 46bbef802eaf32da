#include <algorithm>

#include "kernels/gemm/gemm.h"
#include "kernels/numeric.h"
#include "kvasir/error.h"

namespace kvasir::kernels {
namespace {

using namespace kvasir::testing;

// Rows [n, k] of bits of `dtype`, all kinds of values, at an odd address.
struct Source {
  Source(int64_t n, int64_t k, DType dtype, uint32_t seed) : k(k), dtype(dtype) {
    const size_t count = static_cast<size_t>(n * k);
    bytes.resize(count * dtype_bytes(dtype) + 1);
    std::mt19937 random(seed);
    const std::vector<float> values = normal_values(count, seed);
    for (size_t i = 0; i < count; ++i) {
      if (dtype != DType::kF16) {
        set_element(data(), dtype, static_cast<int64_t>(i), special(i, values[i]));
        continue;
      }
      // Any bits but those of a signalling NaN, which conversions turn quiet.
      uint16_t bits = static_cast<uint16_t>(random());
      if ((bits & 0x7c00) == 0x7c00) bits = (bits & 0xfc00) | (i % 2 ? 0x200 : 0);
      std::memcpy(data() + 2 * i, &bits, 2);
    }
  }
  static float special(size_t i, float value) {
    switch (i % 101) {
      case 3:
        return std::numeric_limits<float>::infinity();
      case 4:
        return -0.0f;
      case 5:
        return std::numeric_limits<float>::quiet_NaN();
      case 6:
        return 3.3961775e38f;  // rounds up to infinity in bf16
      case 7:
        return 1e-41f;  // subnormal
      case 8:
        return 1.00390625f;  // between two bf16, ties to even
      default:
        return value;
    }
  }
  std::byte* data() { return bytes.data() + 1; }
  float at(int64_t row, int64_t i) const { return element(bytes.data() + 1, dtype, row * k + i); }

  int64_t k;
  DType dtype;
  std::vector<std::byte> bytes;
};

uint32_t bits_of(DType dtype, float value) {
  return dtype == DType::kF32 ? std::bit_cast<uint32_t>(value) : f32_to_bf16(value);
}

// The packed format, from its definition: [panels][steps][64 outputs][1 or 2 k].
template <class At>
std::vector<std::byte> packed_by_definition(const PackedDesc& desc, At at) {
  std::vector<std::byte> out(packed_weight_bytes(desc));
  const int per_step = desc.dtype == DType::kBF16 ? 2 : 1;
  const int64_t steps = (desc.k + per_step - 1) / per_step;
  const bool is_pair = desc.layout == WeightLayout::kGatePair;
  for (int64_t row = 0; row < desc.n; ++row) {
    const int64_t half = desc.n / 2;
    const int64_t panel = is_pair ? row % half / 32 : row / 64;
    const int64_t output = is_pair ? row / half * 32 + row % half % 32 : row % 64;
    for (int64_t i = 0; i < desc.k; ++i) {
      const uint32_t bits = bits_of(desc.dtype, at(row, i));
      std::memcpy(
          out.data() + ((panel * steps + i / per_step) * 64 + output) * 4 + i % per_step * 2, &bits,
          4 / per_step);
    }
  }
  return out;
}

class GemmPack : public ::testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Every, GemmPack, ::testing::ValuesIn(present_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

TEST_P(GemmPack, EverySourceAndShape) {
  ThreadPool pool(2);
  struct Shape {
    int64_t n, k;
  };
  for (const DType target : {DType::kF32, DType::kBF16})
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
      for (const auto& [n, k] : {Shape{1, 1}, Shape{64, 32}, Shape{130, 33}, Shape{70, 47},
                                 Shape{65, 129}, Shape{2, 2050}, Shape{192, 100}}) {
        SCOPED_TRACE(std::to_string(n) + " x " + std::to_string(k) + " " +
                     std::string(dtype_name(dtype)) + " to " + std::string(dtype_name(target)));
        Source source(n, k, dtype, 1);
        const PackedDesc desc{.dtype = target, .n = n, .k = k, .isa = GetParam()};
        std::vector<std::byte> out(packed_weight_bytes(desc), std::byte{0xaa});
        const WeightBlock block{source.data(), dtype, n};
        pack_weight({.pool = pool}, desc, {&block, 1}, out.data());
        ASSERT_EQ(out, packed_by_definition(
                           desc, [&](int64_t row, int64_t i) { return source.at(row, i); }));
        std::vector<float> row(k);
        unpack_weight_row(desc, out.data(), n - 1, row.data());
        for (int64_t i = 0; i < k; ++i)
          ASSERT_EQ(bits_of(target, row[i]), bits_of(target, source.at(n - 1, i)));
      }
}

TEST_P(GemmPack, BlocksAreStackedWhateverTheirDtypes) {
  ThreadPool pool(3);
  constexpr int64_t kSize = 75;
  Source q(100, kSize, DType::kF32, 1), k(30, kSize, DType::kBF16, 2), v(3, kSize, DType::kF16, 3);
  const WeightBlock blocks[] = {
      {q.data(), q.dtype, 100}, {k.data(), k.dtype, 30}, {v.data(), v.dtype, 3}};
  for (const DType target : {DType::kF32, DType::kBF16}) {
    const PackedDesc desc{.dtype = target, .n = 133, .k = kSize, .isa = GetParam()};
    std::vector<std::byte> out(packed_weight_bytes(desc), std::byte{0xaa});
    pack_weight({.pool = pool}, desc, blocks, out.data());
    EXPECT_EQ(
        out, packed_by_definition(desc, [&](int64_t row, int64_t i) {
          return row < 100 ? q.at(row, i) : row < 130 ? k.at(row - 100, i) : v.at(row - 130, i);
        }));
  }
}

TEST_P(GemmPack, GatePairsAreInterleaved) {
  ThreadPool pool(2);
  for (const int64_t half : {1, 32, 50, 96}) {
    constexpr int64_t kSize = 41;
    Source gate(half, kSize, DType::kBF16, 1), up(half, kSize, DType::kBF16, 2);
    const WeightBlock blocks[] = {{gate.data(), gate.dtype, half}, {up.data(), up.dtype, half}};
    const PackedDesc desc{
        .layout = WeightLayout::kGatePair, .n = 2 * half, .k = kSize, .isa = GetParam()};
    std::vector<std::byte> out(packed_weight_bytes(desc), std::byte{0xaa});
    pack_weight({.pool = pool}, desc, blocks, out.data());
    EXPECT_EQ(out, packed_by_definition(desc, [&](int64_t row, int64_t i) {
                return row < half ? gate.at(row, i) : up.at(row - half, i);
              }));
  }
}

TEST_P(GemmPack, SeveralSideBySideEqualEachAlone) {
  ThreadPool pool(3);
  constexpr int64_t kSize = 50;
  Source a(70, kSize, DType::kBF16, 1), b(128, kSize, DType::kF32, 2), c(10, kSize, DType::kF16, 3);
  const WeightBlock plain[] = {{a.data(), a.dtype, 70}}, wide[] = {{b.data(), b.dtype, 128}};
  const WeightBlock pair[] = {{c.data(), c.dtype, 5}, {c.data() + 5 * kSize * 2, c.dtype, 5}};
  PackJob jobs[] = {
      {{.n = 70, .k = kSize, .isa = GetParam()}, plain, nullptr},
      {{.n = 0, .k = kSize, .isa = GetParam()}, {}, nullptr},
      {{.dtype = DType::kF32, .n = 128, .k = kSize, .isa = GetParam()}, wide, nullptr},
      {{.layout = WeightLayout::kGatePair, .n = 10, .k = kSize, .isa = GetParam()}, pair, nullptr}};
  std::vector<std::vector<std::byte>> together, alone;
  for (PackJob& job : jobs) {
    alone.emplace_back(packed_weight_bytes(job.desc), std::byte{0xaa});
    pack_weight({.pool = pool}, job.desc, job.blocks, alone.back().data());
    together.emplace_back(packed_weight_bytes(job.desc), std::byte{0xbb});
    job.out = together.back().data();
  }
  pack_weights({.pool = pool}, jobs);
  EXPECT_EQ(together, alone);
}

TEST_P(GemmPack, LargeWeightsPastTheCaches) {
  ThreadPool pool(2);
  constexpr int64_t kOutputs = 1000, kSize = 2111;
  Source source(kOutputs, kSize, DType::kBF16, 1);
  const PackedDesc desc{.n = kOutputs, .k = kSize, .isa = GetParam()};
  ASSERT_GT(packed_weight_bytes(desc), size_t{4} << 20);
  const size_t bytes = packed_weight_bytes(desc);
  std::vector<std::byte> memory(bytes + 64, std::byte{0xaa});
  std::byte* out = memory.data() + 64 - reinterpret_cast<uintptr_t>(memory.data()) % 64;
  const WeightBlock block{source.data(), DType::kBF16, kOutputs};
  pack_weight({.pool = pool}, desc, {&block, 1}, out);
  const std::vector<std::byte> expected =
      packed_by_definition(desc, [&](int64_t row, int64_t i) { return source.at(row, i); });
  EXPECT_TRUE(std::equal(out, out + bytes, expected.begin()));
}

TEST(GemmPackErrors, BlocksThatDoNotSumUp) {
  ThreadPool pool(1);
  Source source(8, 4, DType::kBF16, 1);
  std::vector<std::byte> out(1 << 16);
  const auto message = [&](const PackedDesc& desc, std::vector<WeightBlock> blocks) {
    try {
      pack_weight({.pool = pool}, desc, blocks, out.data());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.message();
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message({.n = 8, .k = 4}, {{source.data(), DType::kBF16, 5}}),
            "expected blocks of 8 rows together, found 5");
  EXPECT_EQ(message({.n = 2, .k = 4},
                    {{source.data(), DType::kBF16, 3}, {source.data(), DType::kBF16, -1}}),
            "expected blocks of n >= 0, found -1");
  EXPECT_EQ(message({.layout = WeightLayout::kGatePair, .n = 8, .k = 4},
                    {{source.data(), DType::kBF16, 3}, {source.data(), DType::kBF16, 5}}),
            "expected a gate and an up block of equal n");
  EXPECT_EQ(message({.dtype = DType::kF16, .n = 8, .k = 4}, {{source.data(), DType::kBF16, 8}}),
            "packed weights are f32 or bf16, found f16");
  EXPECT_EQ(message({.n = 8, .k = 4}, {{source.data(), DType::kBF16, 8}}), "accepted");
}

}  // namespace
}  // namespace kvasir::kernels

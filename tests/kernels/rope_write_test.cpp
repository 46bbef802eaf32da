#include "kernels/rope_write/rope_write.h"

#include <ostream>
#include <string>

#include "kernels/numeric.h"
#include "kvasir/error.h"

namespace kvasir::kernels {
namespace {

using namespace kvasir::testing;

struct Case {
  int64_t rows;
  int q_heads, kv_heads, head_dim, rotary_dim;
  bool has_norms = false;
  bool interleaved = false;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << " rows, " << c.q_heads << "/" << c.kv_heads << " heads of " << c.head_dim
       << ", rotary " << c.rotary_dim << (c.has_norms ? ", normed" : "")
       << (c.interleaved ? ", interleaved" : "");
}

std::vector<Case> cases() {
  std::vector<Case> list = {
      {0, 2, 1, 64, 64},       {1, 1, 1, 16, 16},  {5, 6, 2, 64, 64, true},   {70, 4, 4, 128, 128},
      {9, 8, 2, 80, 80},       {9, 3, 1, 96, 48},  {3, 2, 1, 256, 64},        {4, 2, 2, 40, 10},
      {4, 3, 1, 50, 0, true},  {65, 0, 2, 64, 64}, {7, 0, 3, 128, 128, true}, {130, 6, 0, 64, 64},
      {2, 5, 0, 72, 36, true}, {1, 1, 1, 2, 2},    {3, 2, 1, 33, 30, true},   {200, 32, 8, 64, 64},
  };
  for (int head_dim = 16; head_dim <= 256; head_dim += 24)
    list.push_back({11, 4, 2, head_dim, head_dim, head_dim % 16 != 0});
  for (const Case& c : std::vector(list)) {
    list.push_back(c);
    list.back().interleaved = true;
  }
  return list;
}

// Positions go to pages in an order of their own, at any row inside.
struct Problem {
  Problem(const Case& c, DType dtype)
      : c(c),
        dtype(dtype),
        row_elements((c.q_heads + 2 * c.kv_heads) * c.head_dim),
        qkv(normal_values(c.rows * row_elements, 1)),
        q_norm(normal_values(c.head_dim, 2)),
        k_norm(normal_values(c.head_dim, 3)),
        cos_sin(static_cast<size_t>(c.rows * c.rotary_dim)) {
    const int half = c.rotary_dim / 2;
    for (int64_t row = 0; row < c.rows; ++row)
      for (int i = 0; i < half; ++i) {
        const double angle = static_cast<double>(row + 3) * std::pow(0.1, i);
        cos_sin[row * c.rotary_dim + i] = static_cast<float>(std::cos(angle));
        cos_sin[row * c.rotary_dim + half + i] = static_cast<float>(std::sin(angle));
      }
    pages = c.rows / kPageTokens + 2;
    for (int64_t row = 0; row < c.rows; ++row) {
      const int64_t position = row + 29;
      slot_page.push_back(static_cast<uint32_t>(pages - 1 - position / kPageTokens));
      slot_row.push_back(static_cast<uint8_t>(position % kPageTokens));
    }
  }

  struct Output {
    Matrix q, kv;
  };
  // A page is a row of `kv`, a little further apart than its size.
  Output empty() const {
    const int64_t page = 2 * c.kv_heads * kPageTokens * c.head_dim;
    return {Matrix(c.rows, c.q_heads * c.head_dim, c.q_heads * c.head_dim, dtype),
            Matrix(pages, page, page + 96, dtype)};
  }
  RopeWriteArgs args(Output& out) const {
    return {.qkv = qkv.data(),
            .rows = c.rows,
            .q_heads = c.q_heads,
            .has_kv = c.kv_heads > 0,
            .pages = {.base = out.kv.data(),
                      .page_bytes = out.kv.stride() * static_cast<int64_t>(dtype_bytes(dtype)),
                      .dtype = dtype,
                      .kv_heads = c.kv_heads,
                      .head_dim = c.head_dim},
            .q_norm = c.has_norms ? q_norm.data() : nullptr,
            .k_norm = c.has_norms ? k_norm.data() : nullptr,
            .norm_eps = 1e-6f,
            .rotary_dim = c.rotary_dim,
            .interleaved = c.interleaved,
            .cos_sin = cos_sin.data(),
            .q_out = c.q_heads > 0 ? out.q.data() : nullptr,
            .slot_page = slot_page.data(),
            .slot_row = slot_row.data()};
  }

  Case c;
  DType dtype;
  int64_t row_elements;
  int64_t pages = 0;
  std::vector<float> qkv, q_norm, k_norm, cos_sin;
  std::vector<uint32_t> slot_page;
  std::vector<uint8_t> slot_row;
};

// What was never written is NaN in both; that becomes a mark that must agree, too.
void expect_close_where_written(Matrix found, Matrix expected, const Bounds& bounds) {
  for (Matrix* matrix : {&found, &expected})
    for (int64_t i = 0; i < matrix->rows(); ++i)
      for (int64_t j = 0; j < matrix->columns(); ++j)
        if (std::isnan(matrix->at(i, j))) matrix->set(i, j, 12345);
  expect_close(found, expected, bounds);
}

class RopeWrite : public ::testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Every, RopeWrite, ::testing::ValuesIn(present_isas()),
                         [](const auto& info) { return std::string(isa_name(info.param)); });

TEST_P(RopeWrite, AgreesWithTheReference) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (const Case& c : cases()) {
      SCOPED_TRACE(::testing::PrintToString(c) + " " + std::string(dtype_name(dtype)));
      const Problem problem(c, dtype);
      Problem::Output out = problem.empty(), expected = problem.empty();
      run_rope_write({.pool = pool}, problem.args(out), GetParam());
      run_rope_write_reference({.pool = pool}, problem.args(expected));
      expect_close(out.q, expected.q, bounds_of(dtype));
      expect_close_where_written(out.kv, expected.kv, bounds_of(dtype));
      if (::testing::Test::HasFailure()) return;
    }
}

void expect_rows_to_stand_alone(Isa isa, bool interleaved) {
  ThreadPool one(1), three(3);
  const Problem problem({150, 6, 2, 64, 64, true, interleaved}, DType::kBF16);
  Problem::Output together = problem.empty(), threaded = problem.empty(), alone = problem.empty();
  run_rope_write({.pool = one}, problem.args(together), isa);
  run_rope_write({.pool = three}, problem.args(threaded), isa);
  for (int64_t row = 0; row < 150; ++row) {
    RopeWriteArgs args = problem.args(alone);
    args.qkv += row * problem.row_elements;
    args.rows = 1;
    args.cos_sin += row * 64;
    args.q_out = alone.q.data() + row * 6 * 64 * 2;
    args.slot_page += row;
    args.slot_row += row;
    run_rope_write({.pool = one}, args, isa);
  }
  for (const Problem::Output* other : {&threaded, &alone}) {
    EXPECT_EQ(std::memcmp(other->q.data(), together.q.data(), 150 * 6 * 64 * 2), 0);
    for (int64_t page = 0; page < problem.pages; ++page)
      EXPECT_EQ(std::memcmp(other->kv.row(page), together.kv.row(page), together.kv.columns() * 2),
                0);
  }
}

TEST_P(RopeWrite, RowsDoNotDependOnTheBatchOrTheThreads) {
  for (const bool interleaved : {false, true}) expect_rows_to_stand_alone(GetParam(), interleaved);
}

// Rotation by hand: a quarter turn of the first pair, none of the second; values pass unchanged.
void expect_quarter_turn(Isa isa, bool interleaved, const std::vector<float>& turned_q,
                         const std::vector<float>& turned_k) {
  ThreadPool pool(1);
  const float qkv[] = {1, 2, 3, 4, /*k*/ 5, 6, 7, 8, /*v*/ 9, 10, 11, 12};
  const float cos_sin[] = {0, 1, 1, 0};
  float q[4];
  std::vector<float> page(2 * kPageTokens * 4, 0);
  const uint32_t slot_page = 0;
  const uint8_t slot_row = 63;
  run_rope_write({.pool = pool},
                 {.qkv = qkv,
                  .rows = 1,
                  .q_heads = 1,
                  .pages = {.base = reinterpret_cast<std::byte*>(page.data()),
                            .page_bytes = static_cast<int64_t>(page.size() * 4),
                            .dtype = DType::kF32,
                            .kv_heads = 1,
                            .head_dim = 4},
                  .rotary_dim = 4,
                  .interleaved = interleaved,
                  .cos_sin = cos_sin,
                  .q_out = q,
                  .slot_page = &slot_page,
                  .slot_row = &slot_row},
                 isa);
  EXPECT_EQ(std::vector<float>(q, q + 4), turned_q);
  const float* k = page.data() + 63 * 4;
  const float* v = k + kPageTokens * 4;
  EXPECT_EQ(std::vector<float>(k, k + 4), turned_k);
  EXPECT_EQ(std::vector<float>(v, v + 4), (std::vector<float>{9, 10, 11, 12}));
}

TEST_P(RopeWrite, RotatesHalvesAgainstEachOther) {
  expect_quarter_turn(GetParam(), false, {-3, 2, 1, 4}, {-7, 6, 5, 8});
}

TEST_P(RopeWrite, RotatesNeighboursAgainstEachOtherWhereInterleaved) {
  expect_quarter_turn(GetParam(), true, {-2, 1, 3, 4}, {-6, 5, 7, 8});
}

TEST(RopeWriteErrors, ArgumentsThatCannotBeRight) {
  ThreadPool pool(1);
  const Problem problem({1, 2, 1, 64, 64}, DType::kBF16);
  Problem::Output out = problem.empty();
  const auto refused = [&](auto change) {
    RopeWriteArgs args = problem.args(out);
    change(args);
    try {
      run_rope_write({.pool = pool}, args);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  EXPECT_TRUE(refused([](RopeWriteArgs& args) { args.pages.dtype = DType::kF16; }));
  EXPECT_TRUE(refused([](RopeWriteArgs& args) { args.rotary_dim = 63; }));
  EXPECT_TRUE(refused([](RopeWriteArgs& args) { args.rotary_dim = 66; }));
  EXPECT_TRUE(refused([](RopeWriteArgs& args) { args.q_out = nullptr; }));
  EXPECT_TRUE(refused([](RopeWriteArgs& args) { args.slot_page = nullptr; }));
  EXPECT_FALSE(refused([](RopeWriteArgs&) {}));
}

}  // namespace
}  // namespace kvasir::kernels

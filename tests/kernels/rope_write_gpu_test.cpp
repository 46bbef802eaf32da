#include <cmath>
#include <ostream>

#include "kernels/gpu.h"
#include "kernels/numeric.h"
#include "kernels/rope_write/rope_write.h"
#include "kernels/rope_write/rope_write_cuda.h"

namespace kvasir {
namespace {

using kernels::kPageTokens;
using kernels::PagePool;
using testing::DeviceArray;
using testing::Matrix;

struct Case {
  int64_t rows;
  int q_heads, kv_heads, head_dim, rotary_dim;  // kv_heads = 0: queries only
  bool has_norms = false;
  bool interleaved = false;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << " rows, " << c.q_heads << "/" << c.kv_heads << " heads of " << c.head_dim
       << ", rotary " << c.rotary_dim << (c.has_norms ? ", normed" : "")
       << (c.interleaved ? ", interleaved" : "");
}

// Two sequences share the rows; every fifth row is padding. Angles are gathered from a longer list.
struct Problem {
  Problem(const Case& c, DType dtype)
      : c(c),
        dtype(dtype),
        width((c.q_heads + 2 * c.kv_heads) * c.head_dim),
        qkv(c.rows, width, width, dtype, 1),
        q_norm(testing::normal_values(c.head_dim, 2)),
        k_norm(testing::normal_values(c.head_dim, 3)),
        angles(testing::normal_values((2 * c.rows + 1) * c.rotary_dim, 4)) {
    const int64_t sequence_pages = (c.rows / 2 + 29) / kPageTokens + 1;
    pages = 2 * sequence_pages + 1;  // one belongs to nobody
    for (int64_t i = 0; i < 2 * sequence_pages; ++i)
      page_tables.push_back(static_cast<uint32_t>(pages - 1 - i));
    for (int64_t row = 0; row < c.rows; ++row) {
      positions.push_back(static_cast<int32_t>(row / 2 + 29));
      first_page.push_back(row % 5 == 3 ? -1 : static_cast<int32_t>(row % 2 * sequence_pages));
      row_index.push_back(static_cast<int32_t>(2 * (c.rows - 1 - row) + 1));
    }
  }

  struct Output {
    Matrix q, kv;  // a page is a row of kv, a little further apart than its size
  };
  Output empty(DType type) const {
    const int64_t page = std::max(1, 2 * c.kv_heads) * kPageTokens * c.head_dim;
    return {Matrix(c.rows, c.q_heads * c.head_dim, c.q_heads * c.head_dim, type),
            Matrix(pages, page, page + 64, type)};
  }
  PagePool pool_of(std::byte* base, const Matrix& kv) const {
    return {.base = base,
            .page_bytes = kv.stride() * static_cast<int64_t>(dtype_bytes(kv.dtype())),
            .dtype = kv.dtype(),
            .kv_heads = c.kv_heads,
            .head_dim = c.head_dim};
  }

  Output run(const cuda::Context& context) const {
    Output out = empty(dtype);
    const DeviceArray<std::byte> qkv_on_device(qkv.bytes()), q(out.q.bytes()), kv(out.kv.bytes());
    const DeviceArray<float> q_weight(q_norm), k_weight(k_norm), cos_sin(angles);
    const DeviceArray<int32_t> index(row_index), position(positions), first(first_page);
    const DeviceArray<uint32_t> tables(page_tables);
    kernels::run_rope_write(context, {.qkv = qkv_on_device.data(),
                                      .rows = c.rows,
                                      .q_heads = c.q_heads,
                                      .has_kv = c.kv_heads > 0,
                                      .pages = pool_of(kv.data(), out.kv),
                                      .q_norm = c.has_norms ? q_weight.data() : nullptr,
                                      .k_norm = c.has_norms ? k_weight.data() : nullptr,
                                      .norm_eps = 1e-6f,
                                      .rotary_dim = c.rotary_dim,
                                      .interleaved = c.interleaved,
                                      .cos_sin = cos_sin.data(),
                                      .row_index = index.data(),
                                      .q_out = q.data(),
                                      .positions = position.data(),
                                      .first_page = first.data(),
                                      .page_tables = tables.data()});
    const std::vector<std::byte> found_q = q.read(), found_kv = kv.read();
    if (!found_q.empty()) std::memcpy(out.q.data(), found_q.data(), found_q.size());
    std::memcpy(out.kv.data(), found_kv.data(), found_kv.size());
    return out;
  }

  // Row by row in f32, as padding is nothing that the CPU knows; rounded once.
  Output reference() const {
    Output wide = empty(DType::kF32);
    ThreadPool pool(1);
    for (int64_t row = 0; row < c.rows; ++row) {
      if (first_page[row] < 0) continue;
      std::vector<float> values(width);
      for (int64_t i = 0; i < width; ++i) values[i] = qkv.at(row, i);
      const uint32_t slot_page = page_tables[first_page[row] + positions[row] / kPageTokens];
      const auto slot_row = static_cast<uint8_t>(positions[row] % kPageTokens);
      kernels::run_rope_write_reference({.pool = pool},
                                        {.qkv = values.data(),
                                         .rows = 1,
                                         .q_heads = c.q_heads,
                                         .has_kv = c.kv_heads > 0,
                                         .pages = pool_of(wide.kv.data(), wide.kv),
                                         .q_norm = c.has_norms ? q_norm.data() : nullptr,
                                         .k_norm = c.has_norms ? k_norm.data() : nullptr,
                                         .norm_eps = 1e-6f,
                                         .rotary_dim = c.rotary_dim,
                                         .interleaved = c.interleaved,
                                         .cos_sin = angles.data() + row_index[row] * c.rotary_dim,
                                         .q_out = wide.q.data() + row * wide.q.stride() * 4,
                                         .slot_page = &slot_page,
                                         .slot_row = &slot_row});
    }
    Output out = empty(dtype);
    for (auto [from, to] : {std::pair{&wide.q, &out.q}, std::pair{&wide.kv, &out.kv}})
      for (int64_t i = 0; i < to->rows(); ++i)
        for (int64_t j = 0; j < to->columns(); ++j) to->set(i, j, from->at(i, j));
    return out;
  }

  Case c;
  DType dtype;
  int64_t width, pages = 0;
  Matrix qkv;
  std::vector<float> q_norm, k_norm, angles;
  std::vector<uint32_t> page_tables;
  std::vector<int32_t> positions, first_page, row_index;
};

// What was never written is NaN in both; that becomes a mark that must agree, too.
void expect_close_where_written(Matrix found, Matrix expected) {
  for (Matrix* matrix : {&found, &expected})
    for (int64_t i = 0; i < matrix->rows(); ++i)
      for (int64_t j = 0; j < matrix->columns(); ++j)
        if (std::isnan(matrix->at(i, j))) matrix->set(i, j, 12345);
  testing::expect_close(found, expected, testing::bounds_of(found.dtype()));
}

class RopeWrite : public testing::GpuTest {
 protected:
  void expect_right(const Case& c) {
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      SCOPED_TRACE(::testing::PrintToString(c) + " " + std::string(dtype_name(dtype)));
      const Problem problem(c, dtype);
      const Problem::Output found = problem.run(context_), expected = problem.reference();
      expect_close_where_written(found.q, expected.q);
      expect_close_where_written(found.kv, expected.kv);
    }
  }
};

TEST_F(RopeWrite, AgreesWithTheReference) {
  for (const bool interleaved : {false, true})
    for (Case c : {Case{1, 1, 1, 16, 16}, Case{5, 6, 2, 64, 64, true}, Case{70, 4, 4, 128, 128},
                   Case{9, 8, 2, 80, 80}, Case{9, 3, 1, 96, 48, true}, Case{3, 2, 1, 256, 64},
                   Case{4, 2, 2, 48, 10, true}, Case{4, 3, 1, 48, 0, true}, Case{6, 2, 1, 256, 250},
                   Case{150, 4, 1, 64, 32}}) {
      c.interleaved = interleaved;
      expect_right(c);
    }
}

TEST_F(RopeWrite, EveryHeadSize) {
  for (int head_dim = 16; head_dim <= 256; head_dim += 16)
    expect_right({11, 4, 2, head_dim, head_dim, head_dim % 32 == 0});
}

TEST_F(RopeWrite, QueriesAloneAndKeysAlone) {
  expect_right({7, 0, 3, 128, 128, true});
  expect_right({13, 6, 0, 64, 64, true});
  expect_right({6, 5, 0, 80, 20, false, true});
}

TEST_F(RopeWrite, NoRows) {
  kernels::run_rope_write(context_, {.q_heads = 2, .pages = {.kv_heads = 1, .head_dim = 64}});
  kernels::run_rope_angles(context_, {.rotary_dim = 64});
  synchronize();
}

using RopeAngles = testing::GpuTest;

TEST_F(RopeAngles, AreThoseOfTheCpu) {
  for (const int rotary_dim : {2, 20, 128}) {
    const int half = rotary_dim / 2;
    std::vector<float> frequencies;
    for (const double theta : {1e4, 5e5})
      for (int i = 0; i < half; ++i)
        frequencies.push_back(static_cast<float>(std::pow(theta, -2.0 * i / rotary_dim)));
    const std::vector<int32_t> positions{0, 1, 17, 4095, 131071, 1048575, 2000003};
    const std::vector<int32_t> tables{0, 1, 0, 1, 1, 0, 1};
    const auto rows = std::ssize(positions);
    const float factor = 1.2079441f;
    const DeviceArray<int32_t> position(positions), table(tables);
    const DeviceArray<float> frequency(frequencies);
    for (const bool has_tables : {false, true}) {
      const DeviceArray<float> out(rows * rotary_dim);
      kernels::run_rope_angles(context_, {.positions = position.data(),
                                          .table_of_row = has_tables ? table.data() : nullptr,
                                          .frequencies = frequency.data(),
                                          .factor = factor,
                                          .rotary_dim = rotary_dim,
                                          .rows = rows,
                                          .cos_sin = out.data()});
      const std::vector<float> found = out.read();
      for (int64_t row = 0; row < rows; ++row)
        for (int i = 0; i < half; ++i) {
          const float angle = static_cast<float>(positions[row]) *
                              frequencies[(has_tables ? tables[row] * half : 0) + i];
          const float cosine = static_cast<float>(std::cos(double{angle})) * factor;
          const float sine = static_cast<float>(std::sin(double{angle})) * factor;
          // Two libraries' doubles may round to neighbouring floats.
          ASSERT_NEAR(found[row * rotary_dim + i], cosine, 0x1p-22) << row << ", " << i;
          ASSERT_NEAR(found[row * rotary_dim + half + i], sine, 0x1p-22) << row << ", " << i;
        }
    }
  }
}

}  // namespace
}  // namespace kvasir

#pragma once
// Attention problems on a GPU: a problem of paged_attention_problem.h in 16-bit types on the
// device, runs of an implementation over it, and the comparison with the definition.

#include <functional>
#include <ostream>

#include "kernels/gpu.h"
#include "kernels/naive_attention.h"
#include "kernels/numeric.h"
#include "kernels/paged_attention_problem.h"

namespace kvasir::kernels {

inline std::ostream& operator<<(std::ostream& out, const AttentionShape& shape) {
  out << "heads " << shape.q_heads << "/" << shape.kv_heads << " of " << shape.head_dim
      << ", window " << shape.window << ", seed " << shape.seed << ", spans";
  for (size_t i = 0; i < std::min<size_t>(shape.spans.size(), 8); ++i)
    out << " " << shape.spans[i].rows << "@" << shape.spans[i].query_offset;
  return out << (shape.spans.size() > 8 ? " ..." : "");
}

// As it lies on the device: rows out_stride elements apart, what nobody wrote is 0xffff.
struct GpuAttentionResult {
  std::vector<uint16_t> out;
  std::vector<float> lse;  // empty where there was none

  friend bool operator==(const GpuAttentionResult& a, const GpuAttentionResult& b) {
    return a.out == b.out && a.lse.size() == b.lse.size() &&
           (a.lse.empty() || std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * 4) == 0);
  }
};

// What `run` writes to, and its spans, on the device. Everything is poisoned at first.
struct GpuAttentionArrays {
  GpuAttentionArrays(size_t out_elements, size_t lse_elements, size_t span_count,
                     size_t workspace_bytes)
      : out(out_elements), lse(lse_elements), spans(span_count), workspace(workspace_bytes) {}

  testing::DeviceArray<uint16_t> out;
  testing::DeviceArray<float> lse;
  testing::DeviceArray<CudaAttentionSpan> spans;
  testing::DeviceArray<std::byte> workspace;
};

// Values are drawn in the 16-bit type, so that the definition reads the same ones in f32. All
// between and behind rows of q and pages, in unused pages and in unwritten rows is NaN; entries of
// page tables that belong to no sequence name no page.
class GpuAttentionProblem {
 public:
  // Enqueues all that the operation does (build and run) for these arguments.
  using Run = std::function<void(const CudaAttentionArgs& args)>;

  GpuAttentionProblem(const AttentionShape& shape, DType dtype)
      : exact_(shape, DType::kF32, dtype),
        dtype_(dtype),
        page_bytes_(PagePool::plain_page_bytes(dtype, shape.kv_heads, shape.head_dim) +
                    shape.page_gap_bytes),
        q_(narrow_q()),
        pool_(narrow_pool()),
        tables_(all_tables()) {}

  const AttentionShape& shape() const { return exact_.shape(); }
  const AttentionProblem& exact() const { return exact_; }  // the same values in f32
  DType dtype() const { return dtype_; }
  int64_t rows() const { return exact_.rows(); }
  int64_t out_stride() const { return row_elements() + shape().out_row_gap; }
  AttentionDesc desc() const {
    return {.dtype = dtype_,
            .q_heads = shape().q_heads,
            .kv_heads = shape().kv_heads,
            .head_dim = shape().head_dim};
  }
  // Whole spans, one after the other.
  const std::vector<CudaAttentionSpan>& spans() const { return spans_; }
  // Each of them in pieces of at most `rows` rows.
  std::vector<CudaAttentionSpan> chunks(int rows) const {
    std::vector<CudaAttentionSpan> pieces;
    for (const CudaAttentionSpan& span : spans_)
      for (int row = 0; row < span.rows; row += rows)
        pieces.push_back({.first_row = span.first_row + row,
                          .rows = std::min(rows, span.rows - row),
                          .query_offset = span.query_offset + row,
                          .first_page = span.first_page});
    return pieces;
  }

  GpuAttentionArrays arrays(size_t span_count, size_t workspace_bytes) const {
    const int64_t out = rows() == 0 ? 0 : (rows() - 1) * out_stride() + row_elements();
    const int64_t lse = shape().with_lse ? rows() * shape().q_heads : 0;
    return {static_cast<size_t>(out), static_cast<size_t>(lse), span_count, workspace_bytes};
  }
  // With bounds a little above what the problem needs, as a caller's are.
  CudaAttentionArgs args(const GpuAttentionArrays& arrays) const {
    return {.q = q_.data(),
            .q_row_stride = exact_.q_stride(),
            .out = arrays.out.data(),
            .out_row_stride = out_stride(),
            .lse = shape().with_lse ? arrays.lse.data() : nullptr,
            .pages = {.base = reinterpret_cast<std::byte*>(pool_.data()),
                      .page_bytes = page_bytes_,
                      .dtype = dtype_,
                      .kv_heads = shape().kv_heads,
                      .head_dim = shape().head_dim},
            .page_count = exact_.page_count(),
            .q_heads = shape().q_heads,
            .scale = 1 / std::sqrt(static_cast<float>(shape().head_dim)),
            .window = shape().window,
            .spans = arrays.spans.data(),
            .page_tables = tables_.data(),
            .span_count = static_cast<int>(arrays.spans.size()),
            .max_rows = max_rows(),
            .max_length = max_length(),
            .workspace = arrays.workspace.data()};
  }
  int64_t max_rows() const { return rows() + 9; }
  int64_t max_length() const {
    int64_t longest = 0;
    for (const SpanShape& span : shape().spans)
      longest = std::max(longest, span.query_offset + span.rows);
    return longest + 70;
  }

  // Makes those of a span's keys and values NaN.
  void poison(size_t span, const std::function<bool(int kv_head, int64_t key)>& is_poisoned) {
    std::vector<uint16_t> pool = pool_.read();
    const int64_t head_dim = shape().head_dim;
    const SpanShape& rows = shape().spans[span];
    for (int64_t key = 0; key < rows.query_offset + rows.rows; ++key)
      for (int64_t piece = 0; piece < 2 * shape().kv_heads; ++piece) {
        if (!is_poisoned(static_cast<int>(piece / 2), key)) continue;
        const int64_t page = exact_.table(span)[static_cast<size_t>(key / kPageTokens)];
        uint16_t* row = pool.data() + page * page_bytes_ / 2 +
                        (piece * kPageTokens + key % kPageTokens) * head_dim;
        std::fill(row, row + head_dim, uint16_t{0xffff});
      }
    pool_.write(pool);
  }

  GpuAttentionResult run(const std::vector<CudaAttentionSpan>& spans, size_t workspace_bytes,
                         const Run& run) const {
    GpuAttentionArrays arrays = this->arrays(spans.size(), workspace_bytes);
    arrays.spans.write(spans);
    run(args(arrays));
    return read(arrays);
  }
  GpuAttentionResult read(const GpuAttentionArrays& arrays) const {
    return {arrays.out.read(), arrays.lse.read()};
  }

  // By the definition, in f32: on the CPU, or where that takes too long by naive_attention.
  AttentionResult expected(const cuda::Context& context) const {
    double products = 0;
    for (const SpanShape& span : shape().spans)
      products += static_cast<double>(span.rows) *
                  static_cast<double>(span.query_offset + span.rows) * row_elements();
    return products > 1e9 ? expected_naive(context) : expected_exact();
  }
  // `plans`: of the spans, null or behind the last one: every visible key.
  AttentionResult expected_exact(const std::vector<const AttentionPlan*>& plans = {}) const {
    ThreadPool pool(usable_cpus());
    AttentionResult result = exact_.empty_result();
    std::vector<AttentionSpan> spans = exact_.spans();
    for (size_t i = 0; i < plans.size(); ++i) spans[i].plan = plans[i];
    exact_.run({.pool = pool}, spans, nullptr, false, result);
    return result;
  }
  AttentionResult expected_naive(const cuda::Context& context) const {
    AttentionResult result = exact_.empty_result();
    const testing::DeviceArray<float> out(static_cast<size_t>(rows() * row_elements()));
    const testing::DeviceArray<float> lse(static_cast<size_t>(rows() * shape().q_heads));
    run_naive_attention(context, args(arrays(0, 0)), spans_, out.data(), lse.data());
    const std::vector<float> values = out.read();
    std::memcpy(result.out.data(), values.data(), result.out.size());
    result.lse = lse.read();
    return result;
  }

 private:
  int64_t row_elements() const { return int64_t{shape().q_heads} * shape().head_dim; }

  uint16_t narrow(float value) const {
    return dtype_ == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
  }
  void narrow(const std::byte* from, int64_t elements, uint16_t* to) const {
    for (int64_t i = 0; i < elements; ++i) to[i] = narrow(testing::element(from, DType::kF32, i));
  }

  std::vector<uint16_t> narrow_q() const {
    if (rows() == 0) return {};
    std::vector<uint16_t> q((rows() - 1) * exact_.q_stride() + row_elements(), 0xffff);
    for (int64_t row = 0; row < rows(); ++row)
      narrow(exact_.q() + row * exact_.q_stride() * 4, row_elements(),
             q.data() + row * exact_.q_stride());
    return q;
  }
  std::vector<uint16_t> narrow_pool() const {
    std::vector<uint16_t> pool(exact_.page_count() * page_bytes_ / 2, 0xffff);
    const int64_t elements = (page_bytes_ - shape().page_gap_bytes) / 2;
    for (int64_t page = 0; page < exact_.page_count(); ++page)
      narrow(exact_.pool() + page * exact_.page_bytes(), elements,
             pool.data() + page * page_bytes_ / 2);
    return pool;
  }
  // Also fills in spans_.
  std::vector<uint32_t> all_tables() {
    std::vector<uint32_t> tables{~0u};
    int64_t row = 0;
    for (size_t i = 0; i < shape().spans.size(); ++i) {
      const SpanShape& span = shape().spans[i];
      spans_.push_back({.first_row = static_cast<int32_t>(row),
                        .rows = static_cast<int32_t>(span.rows),
                        .query_offset = static_cast<int32_t>(span.query_offset),
                        .first_page = static_cast<int32_t>(tables.size())});
      row += span.rows;
      tables.insert(tables.end(), exact_.table(i).begin(), exact_.table(i).end());
      tables.push_back(~0u);
    }
    return tables;
  }

  std::vector<CudaAttentionSpan> spans_;
  AttentionProblem exact_;
  DType dtype_;
  int64_t page_bytes_;
  testing::DeviceArray<uint16_t> q_, pool_;
  testing::DeviceArray<uint32_t> tables_;
};

// Outputs are weighted means of values from a normal distribution, at most about 5.
//   bf16: the result is rounded to 8 bits (relative error up to 2^-8, mean square 2e-6) and so are
//     the weights before they meet the values (as much again); at most 2^-9 * 8 + 2^-8 * 5.
//   f16: the same with 11 bits, an eighth of the error and a 64th of its square.
//   Scores are sums in f32, cut off by the tensor cores at 2^-22 or so of their size: what that
//   adds to weights and lse grows with the scores. lse is of unrounded weights, exp2 good to 2^-22.
inline void expect_close(const GpuAttentionProblem& problem, const AttentionResult& expected,
                         const GpuAttentionResult& found) {
  double scores = 10;
  for (const float lse : expected.lse)
    if (std::isfinite(lse)) scores = std::max<double>(scores, std::abs(lse));
  const double of_scores = scores * 0x1p-20, grown = problem.dtype() == DType::kBF16 ? 1 : 0.125;
  const double mean_square = 1.5e-5 * grown * grown + of_scores * of_scores;
  const double maximum = 0.04 * grown + 5 * of_scores;

  const int64_t heads = problem.shape().q_heads, head_dim = problem.shape().head_dim;
  double error = 0, norm = 0, largest = 0;
  for (int64_t row = 0; row < problem.rows(); ++row)
    for (int64_t i = 0; i < problem.out_stride(); ++i) {
      const int64_t at = row * problem.out_stride() + i;
      if (i >= heads * head_dim) {
        if (row + 1 == problem.rows()) break;
        ASSERT_EQ(found.out[at], 0xffff) << "behind row " << row << ", element " << i;
        continue;
      }
      const double x = expected.value(DType::kF32, row * heads * head_dim + i);
      const double y =
          problem.dtype() == DType::kBF16 ? bf16_to_f32(found.out[at]) : f16_to_f32(found.out[at]);
      ASSERT_TRUE(std::isfinite(y)) << "row " << row << ", head " << i / head_dim << ", element "
                                    << i % head_dim << ": " << y << " for " << x;
      error += (x - y) * (x - y);
      norm += x * x;
      largest = std::max(largest, std::abs(x - y));
    }
  EXPECT_LE(error, mean_square * norm);
  EXPECT_LE(largest, maximum);
  for (size_t i = 0; i < found.lse.size(); ++i) {
    if (std::isinf(expected.lse[i])) {
      ASSERT_EQ(expected.lse[i], found.lse[i]) << "row " << i / heads << ", head " << i % heads;
    } else {
      ASSERT_NEAR(expected.lse[i], found.lse[i], 2e-4 + of_scores)
          << "row " << i / heads << ", head " << i % heads;
    }
  }
}

}  // namespace kvasir::kernels

#pragma once
// Attention problems for tests: random queries, keys and values in scattered pages whose unwritten
// rows are NaN, and memory of exactly the size that the contract asks for.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "kernels/paged_attention/paged_attention.h"

namespace kvasir::kernels {

struct SpanShape {
  int64_t rows = 0;
  int64_t query_offset = 0;
};

struct AttentionShape {
  int q_heads = 1;
  int kv_heads = 1;
  int head_dim = 64;
  std::vector<SpanShape> spans;
  int64_t window = 0;
  bool with_lse = true;
  int64_t q_row_gap = 0;       // elements between rows of q beyond the dense stride
  int64_t page_gap_bytes = 0;  // between pages
  float query_scale = 1;       // larger: peaked weights and maxima that rise often
  float query_mean = 0;        // with key_mean: where the scores lie
  float key_scale = 1;         // 0: every key is the same
  float key_mean = 0;
  int64_t spare_pages = 0;  // in the pool, of no sequence
  int64_t out_row_gap = 0;  // as q_row_gap, of out; only where the op has a stride of out
  float key_growth = 0;     // of the keys' size a position: maxima that rise without end
  uint32_t seed = 1;
};

struct FreeAligned {
  void operator()(void* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte, FreeAligned>;

// Of exactly so many bytes, so that a sanitizer sees what is touched beyond.
inline AlignedBytes aligned_bytes(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, bytes == 0 ? 1 : bytes) != 0) throw std::bad_alloc();
  return AlignedBytes(static_cast<std::byte*>(p));
}

struct AttentionResult {
  std::vector<std::byte> out;
  std::vector<float> lse;
  std::vector<uint64_t> scored;

  double value(DType dtype, size_t i) const {
    if (dtype == DType::kF32) return reinterpret_cast<const float*>(out.data())[i];
    return bf16_to_f32(reinterpret_cast<const bf16_t*>(out.data())[i]);
  }
};

class AttentionProblem {
 public:
  // `values`: what the values can be told apart in, where that is less than `dtype` holds.
  AttentionProblem(const AttentionShape& shape, DType dtype, DType values = DType::kF32)
      : shape_(shape), dtype_(dtype), values_(values) {
    std::mt19937 random(shape.seed);
    int64_t pages = shape.spare_pages;
    for (const SpanShape& span : shape.spans) {
      first_rows_.push_back(rows_);
      rows_ += span.rows;
      pages += pages_of(span);
    }
    const auto bytes = static_cast<int64_t>(dtype_bytes(dtype));
    page_bytes_ =
        PagePool::plain_page_bytes(dtype, shape.kv_heads, shape.head_dim) + shape.page_gap_bytes;
    q_stride_ = int64_t{shape.q_heads} * shape.head_dim + shape.q_row_gap;
    const int64_t q_elements =
        rows_ == 0 ? 0 : (rows_ - 1) * q_stride_ + int64_t{shape.q_heads} * shape.head_dim;
    q_ = aligned_bytes(static_cast<size_t>(q_elements * bytes));
    fill(random, q_.get(), q_elements, shape.query_mean, shape.query_scale);
    page_count_ = pages;
    pool_ = aligned_bytes(static_cast<size_t>(pages * page_bytes_));
    std::memset(pool_.get(), 0xff, static_cast<size_t>(pages * page_bytes_));

    std::vector<uint32_t> order(pages);
    for (int64_t i = 0; i < pages; ++i) order[i] = static_cast<uint32_t>(i);
    std::shuffle(order.begin(), order.end(), random);
    for (const SpanShape& span : shape.spans) {
      tables_.emplace_back(order.end() - pages_of(span), order.end());
      order.resize(order.size() - pages_of(span));
      write_keys(random, tables_.back(), span.query_offset + span.rows);
    }
  }

  const AttentionShape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t rows() const { return rows_; }
  int64_t q_stride() const { return q_stride_; }
  int64_t page_bytes() const { return page_bytes_; }
  int64_t page_count() const { return page_count_; }
  const std::byte* q() const { return q_.get(); }
  const std::byte* pool() const { return pool_.get(); }
  const std::vector<uint32_t>& table(size_t span) const { return tables_[span]; }
  AttentionDesc desc() const {
    return {.dtype = dtype_,
            .q_heads = shape_.q_heads,
            .kv_heads = shape_.kv_heads,
            .head_dim = shape_.head_dim};
  }
  // Whole spans, one after the other.
  std::vector<AttentionSpan> spans() const {
    std::vector<AttentionSpan> spans;
    for (size_t i = 0; i < shape_.spans.size(); ++i)
      spans.push_back({.first_row = first_rows_[i],
                       .rows = shape_.spans[i].rows,
                       .query_offset = shape_.spans[i].query_offset,
                       .page_table = tables_[i].data()});
    return spans;
  }

  AttentionResult empty_result() const {
    const size_t elements = static_cast<size_t>(rows_ * shape_.q_heads * shape_.head_dim);
    return {.out = std::vector<std::byte>(elements * dtype_bytes(dtype_), std::byte{0xee}),
            .lse = std::vector<float>(static_cast<size_t>(rows_ * shape_.q_heads), -1234.0f),
            .scored = {}};
  }

  // `isa` null: the reference.
  void run(const CpuContext& context, const std::vector<AttentionSpan>& spans, const Isa* isa,
           bool deterministic, AttentionResult& result) const {
    int64_t rows = 0, longest = 0;
    for (const AttentionSpan& span : spans) {
      rows += span.rows;
      longest = std::max(longest, span.query_offset + span.rows);
    }
    const AlignedBytes workspace = aligned_bytes(attention_workspace_bytes(
        desc(), rows, static_cast<int64_t>(spans.size()), longest, context.pool.size()));
    result.scored.assign(spans.size(), 0);
    const AttentionArgs args{.q = q_.get(),
                             .q_row_stride = q_stride_,
                             .out = result.out.data(),
                             .lse = shape_.with_lse ? result.lse.data() : nullptr,
                             .pages = {.base = pool_.get(),
                                       .page_bytes = page_bytes_,
                                       .dtype = dtype_,
                                       .kv_heads = shape_.kv_heads,
                                       .head_dim = shape_.head_dim},
                             .q_heads = shape_.q_heads,
                             .scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim)),
                             .window = shape_.window,
                             .spans = spans,
                             .deterministic = deterministic,
                             .workspace = workspace.get(),
                             .scored_pairs = result.scored.data()};
    if (isa)
      run_attention(context, args, *isa);
    else
      run_attention_reference(context, args);
  }

 private:
  static int64_t pages_of(const SpanShape& span) {
    return (span.query_offset + span.rows + kPageTokens - 1) / kPageTokens;
  }

  float rounded(float value) const {
    if (values_ == DType::kF32) return value;
    return values_ == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value))
                                   : f16_to_f32(f32_to_f16(value));
  }

  void fill(std::mt19937& random, std::byte* data, int64_t elements, float mean,
            float scale) const {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < elements; ++i) {
      const float value = rounded(mean + scale * normal(random));
      if (dtype_ == DType::kF32)
        reinterpret_cast<float*>(data)[i] = value;
      else
        reinterpret_cast<bf16_t*>(data)[i] = f32_to_bf16(value);
    }
  }

  void write_keys(std::mt19937& random, const std::vector<uint32_t>& table, int64_t length) const {
    const int64_t row_bytes = shape_.head_dim * static_cast<int64_t>(dtype_bytes(dtype_));
    for (int64_t position = 0; position < length; ++position)
      for (int64_t piece = 0; piece < 2 * shape_.kv_heads; ++piece)  // K, V of each head
        fill(random,
             pool_.get() + table[position / kPageTokens] * page_bytes_ +
                 (piece * kPageTokens + position % kPageTokens) * row_bytes,
             shape_.head_dim, piece % 2 == 0 ? shape_.key_mean : 0,
             piece % 2 == 0
                 ? shape_.key_scale * (1 + shape_.key_growth * static_cast<float>(position))
                 : 1);
  }

  AttentionShape shape_;
  DType dtype_, values_;
  int64_t rows_ = 0;
  int64_t page_bytes_ = 0, page_count_ = 0;
  int64_t q_stride_ = 0;
  AlignedBytes q_, pool_;
  std::vector<int64_t> first_rows_;
  std::vector<std::vector<uint32_t>> tables_;
};

// The instruction sets that run different code for `desc` on this CPU, the reference aside.
inline std::vector<Isa> attention_isas(const AttentionDesc& desc) {
  std::vector<Isa> isas;
  std::string before(attention_implementation(desc, Isa::kScalar));
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmxBf16}) {
    if (!cpu_supports(isa)) continue;
    const std::string name(attention_implementation(desc, isa));
    if (name != before) isas.push_back(isa);
    before = name;
  }
  return isas;
}

}  // namespace kvasir::kernels

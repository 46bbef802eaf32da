#include "bench/attention_case.h"

#include <cmath>
#include <random>

namespace kvasir::bench {
namespace {

void fill(Memory& memory, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<bf16_t> values(4096);
  for (bf16_t& value : values) value = f32_to_bf16(normal(random));
  auto* out = reinterpret_cast<bf16_t*>(memory.data());
  for (size_t i = 0; i < memory.bytes() / 2; ++i) out[i] = values[(i * 31 + i / 4096) % 4096];
}

}  // namespace

AttentionCase::AttentionCase(ThreadPool& pool, int q_heads, int kv_heads, int head_dim,
                             int64_t length, int64_t rows)
    : pool_(pool), length_(length), rows_(rows) {
  const DType dtype = DType::kBF16;
  const int64_t pages = (length + kernels::kPageTokens - 1) / kernels::kPageTokens;
  const int64_t page_bytes = kernels::PagePool::plain_page_bytes(dtype, kv_heads, head_dim);
  kv_ = Memory(static_cast<size_t>(pages * page_bytes));
  q_ = Memory(static_cast<size_t>(rows * q_heads * head_dim * 2));
  out_ = Memory(q_.bytes());
  fill(kv_, 1);
  fill(q_, 2);
  table_.resize(pages);
  for (int64_t i = 0; i < pages; ++i) table_[i] = static_cast<uint32_t>(i);
  span_ = {.rows = rows, .query_offset = length - rows, .page_table = table_.data()};
  const kernels::AttentionDesc desc{
      .dtype = dtype, .q_heads = q_heads, .kv_heads = kv_heads, .head_dim = head_dim};
  workspace_ = Memory(kernels::attention_workspace_bytes(desc, rows, 1, length, pool.size()));
  args_ = {.q = q_.data(),
           .q_row_stride = int64_t{q_heads} * head_dim,
           .out = out_.data(),
           .pages = {.base = kv_.data(),
                     .page_bytes = page_bytes,
                     .dtype = dtype,
                     .kv_heads = kv_heads,
                     .head_dim = head_dim},
           .q_heads = q_heads,
           .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
           .spans = {&span_, 1},
           .workspace = workspace_.data(),
           .scored_pairs = &scored_};
}

uint64_t AttentionCase::run(const kernels::AttentionPlan* plan) {
  span_.plan = plan;
  scored_ = 0;
  kernels::run_attention({.pool = pool_}, args_);
  return scored_;
}

double AttentionCase::flops() const {
  const double rows = static_cast<double>(rows_);
  const double pairs = rows * static_cast<double>(length_ - rows_) + rows * (rows + 1) / 2;
  return 4.0 * args_.q_heads * args_.pages.head_dim * pairs;
}

}  // namespace kvasir::bench

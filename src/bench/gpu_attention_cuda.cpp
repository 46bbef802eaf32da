#include "bench/gpu_attention_cuda.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/dtype.h"

namespace kvasir::bench {
namespace {

// Random bf16 values, repeated with an odd period.
void fill(const cuda::DeviceMemory& memory, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<bf16_t> values((1 << 20) + 24);
  for (bf16_t& value : values) value = f32_to_bf16(normal(random));
  const size_t period = values.size() * sizeof(bf16_t);
  for (size_t done = 0; done < memory.bytes(); done += period)
    KVASIR_CUDA(cudaMemcpy(memory.data() + done, values.data(),
                           std::min(period, memory.bytes() - done), cudaMemcpyHostToDevice));
}

int64_t pages_of(int64_t length) {
  return (length + kernels::kPageTokens - 1) / kernels::kPageTokens;
}

}  // namespace

GpuAttentionCase::GpuAttentionCase(const cuda::Context& context, int q_heads, int kv_heads,
                                   int head_dim, const std::vector<int64_t>& lengths, int64_t rows)
    : context_(context), lengths_(lengths), rows_(rows) {
  const DType dtype = DType::kBF16;
  std::vector<kernels::CudaAttentionSpan> spans;
  int64_t pages = 0;
  for (const int64_t length : lengths) {
    spans.push_back({.first_row = static_cast<int32_t>(std::ssize(spans) * rows),
                     .rows = static_cast<int32_t>(rows),
                     .query_offset = static_cast<int32_t>(length - rows),
                     .first_page = static_cast<int32_t>(pages)});
    pages += pages_of(length);
  }
  std::vector<uint32_t> tables(static_cast<size_t>(pages));
  for (size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<uint32_t>(i);
  std::ranges::shuffle(tables, std::mt19937(3));
  const int64_t page_bytes = kernels::PagePool::plain_page_bytes(dtype, kv_heads, head_dim);
  const int64_t all_rows = rows * std::ssize(lengths), q_size = int64_t{q_heads} * head_dim;
  pages_ = cuda::DeviceMemory(static_cast<size_t>(pages * page_bytes));
  q_ = cuda::DeviceMemory(static_cast<size_t>(all_rows * q_size * 2));
  out_ = cuda::DeviceMemory(q_.bytes());
  fill(pages_, 1);
  fill(q_, 2);
  const auto upload = [](const auto& values) {
    cuda::DeviceMemory memory(values.size() * sizeof(values[0]));
    KVASIR_CUDA(cudaMemcpy(memory.data(), values.data(), memory.bytes(), cudaMemcpyHostToDevice));
    return memory;
  };
  spans_ = upload(spans);
  tables_ = upload(tables);
  const kernels::AttentionDesc desc{
      .dtype = dtype, .q_heads = q_heads, .kv_heads = kv_heads, .head_dim = head_dim};
  const int64_t longest = *std::ranges::max_element(lengths);
  const auto count = static_cast<int>(lengths.size());
  workspace_ = cuda::DeviceMemory(
      rows == 1 ? kernels::decode_attention_workspace_bytes(desc, context, count, longest)
                : kernels::prefill_attention_workspace_bytes(desc, context, count, all_rows));
  KVASIR_CUDA(cudaMemset(workspace_.data(), 0, workspace_.bytes()));
  args_ = {.q = q_.data(),
           .q_row_stride = q_size,
           .out = out_.data(),
           .out_row_stride = q_size,
           .pages = {.base = pages_.data(),
                     .page_bytes = page_bytes,
                     .dtype = dtype,
                     .kv_heads = kv_heads,
                     .head_dim = head_dim},
           .page_count = pages,
           .q_heads = q_heads,
           .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
           .spans = reinterpret_cast<const kernels::CudaAttentionSpan*>(spans_.data()),
           .page_tables = reinterpret_cast<const uint32_t*>(tables_.data()),
           .span_count = count,
           .max_rows = all_rows,
           .max_length = longest,
           .workspace = workspace_.data()};
  build();
}

void GpuAttentionCase::build() {
  if (rows_ == 1)
    kernels::build_decode_attention(context_, args_);
  else
    kernels::build_prefill_attention(context_, args_);
}

void GpuAttentionCase::run() {
  if (rows_ == 1)
    kernels::run_decode_attention(context_, args_);
  else
    kernels::run_prefill_attention(context_, args_);
}

double GpuAttentionCase::flops() const {
  double pairs = 0;
  for (const int64_t length : lengths_) {
    const auto rows = static_cast<double>(rows_);
    pairs += rows * static_cast<double>(length - rows_) + rows * (rows + 1) / 2;
  }
  return 4.0 * args_.q_heads * args_.pages.head_dim * pairs;
}

double GpuAttentionCase::kv_bytes() const {
  double tokens = 0;
  for (const int64_t length : lengths_) tokens += static_cast<double>(length);
  return tokens * 2 * args_.pages.kv_heads * args_.pages.head_dim * 2;
}

}  // namespace kvasir::bench

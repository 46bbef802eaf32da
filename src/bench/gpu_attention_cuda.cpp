#include "bench/gpu_attention_cuda.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/dtype.h"
#include "bench/gpu_timing_cuda.h"

namespace kvasir::bench {
namespace {

// Random bf16 values, repeated with an odd period.
void fill(const cuda::DeviceMemory& memory, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<bf16_t> values((1 << 20) + 24);
  for (bf16_t& value : values) value = f32_to_bf16(normal(random));
  size_t done = std::min(values.size() * sizeof(bf16_t), memory.bytes());
  KVASIR_CUDA(cudaMemcpy(memory.data(), values.data(), done, cudaMemcpyHostToDevice));
  for (size_t step; done < memory.bytes(); done += step) {
    step = std::min(done, memory.bytes() - done);
    KVASIR_CUDA(cudaMemcpy(memory.data() + done, memory.data(), step, cudaMemcpyDeviceToDevice));
  }
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
                : kernels::prefill_attention_workspace_bytes(desc, context, count, all_rows, true));
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

GpuAttentionCase::GpuAttentionCase(const cuda::Context& context, int q_heads, int kv_heads,
                                   int head_dim, int64_t length, const PlanShape& plan)
    : GpuAttentionCase(context, q_heads, kv_heads, head_dim, std::vector<int64_t>{length}, length) {
  plan_ = std::make_unique<SyntheticPlan>(plan, q_heads, length);
  const kernels::CudaAttentionSpan span{.rows = static_cast<int32_t>(length), .plan = 0};
  KVASIR_CUDA(cudaMemcpy(spans_.data(), &span, sizeof(span), cudaMemcpyHostToDevice));
  scored_ = cuda::DeviceMemory(sizeof(uint64_t));
  KVASIR_CUDA(cudaMemset(scored_.data(), 0, scored_.bytes()));
  args_.plans = plan_->on_device();
  args_.plan_count = 1;
  args_.scored_pairs = reinterpret_cast<uint64_t*>(scored_.data());
  build();
  build_plans();
}

void GpuAttentionCase::build() {
  if (rows_ == 1)
    kernels::build_decode_attention(context_, args_);
  else
    kernels::build_prefill_attention(context_, args_);
}

void GpuAttentionCase::build_plans() { kernels::build_prefill_plans(context_, args_); }

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
  return flops_of(args_.q_heads * pairs);
}

double GpuAttentionCase::scored_flops() {
  uint64_t before = 0, after = 0;
  const auto read = [&](uint64_t& to) {
    KVASIR_CUDA(cudaStreamSynchronize(context_.stream));
    KVASIR_CUDA(cudaMemcpy(&to, scored_.data(), sizeof(to), cudaMemcpyDeviceToHost));
  };
  read(before);
  run();
  read(after);
  return flops_of(static_cast<double>(after - before));
}

double GpuAttentionCase::kv_bytes() const {
  double tokens = 0;
  for (const int64_t length : lengths_) tokens += static_cast<double>(length);
  return tokens * 2 * args_.pages.kv_heads * args_.pages.head_dim * 2;
}

std::vector<Line> time_attention_plans(const cuda::Context& context, int q_heads, int kv_heads,
                                       int head_dim, int64_t length,
                                       const std::vector<PlanShape>& plans, int repetitions) {
  const std::string shape = fmt::format("{}/{} d{} {}", q_heads, kv_heads, head_dim, length);
  std::vector<Line> lines;
  double dense_rate = 0, dense_seconds = 0;
  {
    GpuAttentionCase dense(context, q_heads, kv_heads, head_dim, {length}, length);
    const Timing timing = measure_on_gpu(context.stream, repetitions, 1, [&] { dense.run(); });
    dense_seconds = timing.median_seconds;
    dense_rate = dense.flops() / dense_seconds;
    lines.push_back({fmt::format("attention {}", shape), timing, {{"TFLOP/s", dense_rate / 1e12}}});
  }
  for (const PlanShape& plan : plans) {
    GpuAttentionCase planned(context, q_heads, kv_heads, head_dim, length, plan);
    const double scored = planned.scored_flops();
    const double required = 4.0 * head_dim * planned.plan().required_pairs();
    const Timing timing = measure_on_gpu(context.stream, repetitions, 1, [&] {
      planned.build_plans();
      planned.run();
    });
    const double seconds = timing.median_seconds;
    lines.push_back(
        {fmt::format("attention {}, {} of row tile {}", shape, name_of(plan.kind), plan.row_tile),
         timing,
         {{"density", required / planned.flops()},
          {"TFLOP/s", scored / seconds / 1e12},
          {"of dense", scored / seconds / dense_rate},
          {"required of dense", required / seconds / dense_rate},
          {"x dense", dense_seconds / seconds}}});
  }
  return lines;
}

}  // namespace kvasir::bench

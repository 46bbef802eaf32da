#include "kernels/cuda_device.cuh"
#include "kernels/naive_attention.h"

namespace kvasir::kernels {
namespace {

constexpr int kWarps = 8;
constexpr int kMaximumPerLane = 8;  // head_dim up to 256

__device__ float sum_of_lanes(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// One block a row and head; a warp takes every eighth key, its lanes the elements.
template <class T>
__global__ void __launch_bounds__(kWarps * 32)
    naive_attention(CudaAttentionArgs args, CudaAttentionSpan span, float* out, float* lse) {
  wait_for_inputs();
  const PagePool& pages = args.pages;
  const int head = static_cast<int>(blockIdx.y), head_dim = pages.head_dim;
  const int kv_head = head / (args.q_heads / pages.kv_heads);
  const int64_t row = span.first_row + int64_t{blockIdx.x};
  const int64_t position = span.query_offset + int64_t{blockIdx.x};
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const T* q = static_cast<const T*>(args.q) + row * args.q_row_stride + int64_t{head} * head_dim;

  float query[kMaximumPerLane] = {}, sums[kMaximumPerLane] = {};
  const auto each_element = [&](auto&& use) {
#pragma unroll
    for (int i = 0; i < kMaximumPerLane; ++i)
      if (i * 32 + lane < head_dim) use(i, i * 32 + lane);
  };
  each_element([&](int i, int at) { query[i] = to_float(q[at]); });
  float maximum = -INFINITY, denominator = 0;
  const int64_t lowest =
      args.window > 0 && position + 1 > args.window ? position + 1 - args.window : 0;
  for (int64_t key = lowest + warp; key <= position; key += kWarps) {
    const uint32_t page = args.page_tables[span.first_page + key / kPageTokens];
    const T* k = reinterpret_cast<const T*>(pages.base + int64_t{page} * pages.page_bytes) +
                 (int64_t{kv_head} * 2 * kPageTokens + key % kPageTokens) * head_dim;
    const T* v = k + kPageTokens * head_dim;
    float score = 0;
    each_element([&](int i, int at) { score += query[i] * to_float(k[at]); });
    score = sum_of_lanes(score) * args.scale;
    const float raised = fmaxf(maximum, score);
    const float shrink = expf(maximum - raised), weight = expf(score - raised);
    maximum = raised;
    denominator = denominator * shrink + weight;
    each_element([&](int i, int at) { sums[i] = sums[i] * shrink + weight * to_float(v[at]); });
  }

  __shared__ float maxima[kWarps], denominators[kWarps], shares[kWarps][kMaximumPerLane * 32];
  if (lane == 0) {
    maxima[warp] = maximum;
    denominators[warp] = denominator;
  }
  each_element([&](int i, int at) { shares[warp][at] = sums[i]; });
  __syncthreads();
  float highest = -INFINITY, total = 0;
  for (const float each : maxima) highest = fmaxf(highest, each);
  for (int i = 0; i < kWarps; ++i)
    if (maxima[i] > -INFINITY) total += denominators[i] * expf(maxima[i] - highest);
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kWarps * 32) {
    float sum = 0;
    for (int j = 0; j < kWarps; ++j)
      if (maxima[j] > -INFINITY) sum += shares[j][i] * expf(maxima[j] - highest);
    out[(row * args.q_heads + head) * head_dim + i] = total > 0 ? sum / total : 0;
  }
  if (threadIdx.x == 0) lse[row * args.q_heads + head] = highest + logf(total);
}

}  // namespace

void run_naive_attention(const cuda::Context& context, const CudaAttentionArgs& args,
                         std::span<const CudaAttentionSpan> spans, float* out, float* lse) {
  const auto kernel =
      args.pages.dtype == DType::kBF16 ? naive_attention<bfloat16> : naive_attention<float16>;
  for (const CudaAttentionSpan& span : spans) {
    if (span.rows == 0) continue;
    const dim3 grid(static_cast<unsigned>(span.rows), static_cast<unsigned>(args.q_heads));
    launch(context, kernel, grid, kWarps * 32, 0, args, span, out, lse);
  }
}

}  // namespace kvasir::kernels

// A row is held in the registers of a team of warps, so that it is read once. Short rows have a
// team of one warp, four teams a CTA, and need no barrier. Backward CTAs walk over rows and keep
// their part of the weight's gradient in registers: its sum over CTAs is the caller's.

#include <algorithm>

#include "kernels/add_norm/add_norm_cuda.h"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kHeld = 4;                // vectors of four elements that a thread holds
constexpr int kWarpSize = 128 * kHeld;  // elements that a warp holds
constexpr int kMostWarps = 16;
static_assert(kWarpSize * kMostWarps == kMostNormSize);
constexpr int kTeams = 4;  // of one warp, in a CTA

struct alignas(8) Four {
  bfloat16 values[4];
};

// Threads of a team; it works on one row at a time.
template <bool kOneWarp>
struct Team {
  int index, count;  // of the grid
  int thread, threads;

  __device__ Team() {
    if constexpr (kOneWarp) {
      index = blockIdx.x * kTeams + threadIdx.x / 32;
      count = gridDim.x * kTeams;
      thread = threadIdx.x % 32;
      threads = 32;
    } else {
      index = blockIdx.x;
      count = gridDim.x;
      thread = threadIdx.x;
      threads = blockDim.x;
    }
  }

  __device__ float sum(float value) const {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      value += __shfl_xor_sync(0xffffffff, value, distance);
    if constexpr (!kOneWarp) {
      __shared__ float warps[kMostWarps];
      __syncthreads();  // those of the row before have been read
      if (thread % 32 == 0) warps[thread / 32] = value;
      __syncthreads();
      value = thread % 32 < threads / 32 ? warps[thread % 32] : 0;
#pragma unroll
      for (int distance = 16; distance > 0; distance /= 2)
        value += __shfl_xor_sync(0xffffffff, value, distance);
    }
    return value;
  }
};

__device__ __forceinline__ float4 widen(Four v) {
  return make_float4(to_float(v.values[0]), to_float(v.values[1]), to_float(v.values[2]),
                     to_float(v.values[3]));
}

__device__ __forceinline__ Four narrow(float a, float b, float c, float d) {
  return {{from_float<bfloat16>(a), from_float<bfloat16>(b), from_float<bfloat16>(c),
           from_float<bfloat16>(d)}};
}

__device__ __forceinline__ float dot(float4 a, float4 b) {
  return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, a.w * b.w)));
}

template <bool kOneWarp>
__global__ void __launch_bounds__(kOneWarp ? 32 * kTeams : 32 * kMostWarps)
    add_norm(AddNormArgs args) {
  const Team<kOneWarp> team;
  const int vectors = static_cast<int>(args.size / 4);
  const auto* weight = reinterpret_cast<const float4*>(args.weight);
  const int64_t row = team.index;
  if (row >= args.rows) return;
  const auto* x = static_cast<const Four*>(args.x) + row * vectors;
  const auto* y = static_cast<const Four*>(args.y) + row * vectors;
  float4 held[kHeld];
  Four stored[kHeld];
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = team.thread + j * team.threads;
    stored[j] = i < vectors ? x[i] : Four{};
  }
  if (args.y) {
    auto* sum = static_cast<Four*>(args.sum) + row * vectors;
    Four added[kHeld];
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = team.thread + j * team.threads;
      added[j] = i < vectors ? y[i] : Four{};
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = team.thread + j * team.threads;
      const float4 a = widen(stored[j]), b = widen(added[j]);
      stored[j] = narrow(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
      if (i < vectors) sum[i] = stored[j];
    }
  }
  float squares = 0;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    held[j] = widen(stored[j]);
    squares += dot(held[j], held[j]);
  }
  squares = team.sum(squares);
  const float scale = 1 / sqrtf(squares / static_cast<float>(args.size) + args.eps);
  if (team.thread == 0) args.scale[row] = scale;
  auto* normed = static_cast<Four*>(args.normed) + row * vectors;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = team.thread + j * team.threads;
    if (i >= vectors) continue;
    const float4 w = __ldg(weight + i);
    normed[i] = narrow(held[j].x * scale * w.x, held[j].y * scale * w.y, held[j].z * scale * w.z,
                       held[j].w * scale * w.w);
  }
}

template <bool kOneWarp>
__global__ void __launch_bounds__(kOneWarp ? 32 * kTeams : 32 * kMostWarps)
    add_norm_backward(AddNormBackwardArgs args) {
  const Team<kOneWarp> team;
  const int vectors = static_cast<int>(args.size / 4);
  float4 weight[kHeld], weight_sum[kHeld];
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = team.thread + j * team.threads;
    weight[j] = i < vectors ? reinterpret_cast<const float4*>(args.weight)[i] : float4{};
    weight_sum[j] = float4{};
  }
  for (int64_t row = team.index; row < args.rows; row += team.count) {
    const auto* d_normed = static_cast<const Four*>(args.d_normed) + row * vectors;
    const auto* d_sum = static_cast<const Four*>(args.d_sum) + row * vectors;
    const auto* sum = static_cast<const Four*>(args.sum) + row * vectors;
    Four d_stored[kHeld], stored[kHeld], before[kHeld];
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = team.thread + j * team.threads;
      d_stored[j] = i < vectors ? d_normed[i] : Four{};
      stored[j] = i < vectors ? sum[i] : Four{};
      before[j] = args.d_sum && i < vectors ? d_sum[i] : Four{};
    }
    const float scale = args.scale[row];
    float product = 0;
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const float4 d = widen(d_stored[j]), s = widen(stored[j]), w = weight[j];
      const float4 unit = make_float4(s.x * scale, s.y * scale, s.z * scale, s.w * scale);
      const float4 dw = make_float4(d.x * unit.x, d.y * unit.y, d.z * unit.z, d.w * unit.w);
      weight_sum[j] = make_float4(weight_sum[j].x + dw.x, weight_sum[j].y + dw.y,
                                  weight_sum[j].z + dw.z, weight_sum[j].w + dw.w);
      product += dot(dw, w);
    }
    const float mean = team.sum(product) / static_cast<float>(args.size);
    auto* d_x = static_cast<Four*>(args.d_x) + row * vectors;
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int i = team.thread + j * team.threads;
      if (i >= vectors) continue;
      const float4 d = widen(d_stored[j]), s = widen(stored[j]), w = weight[j];
      const float4 b = widen(before[j]);
      d_x[i] = narrow(b.x + scale * (d.x * w.x - s.x * scale * mean),
                      b.y + scale * (d.y * w.y - s.y * scale * mean),
                      b.z + scale * (d.z * w.z - s.z * scale * mean),
                      b.w + scale * (d.w * w.w - s.w * scale * mean));
    }
  }
  auto* parts = reinterpret_cast<float4*>(args.weight_parts) + int64_t{team.index} * vectors;
#pragma unroll
  for (int j = 0; j < kHeld; ++j)
    if (const int i = team.thread + j * team.threads; i < vectors) parts[i] = weight_sum[j];
}

int warps_of(int64_t size) {
  return static_cast<int>(std::clamp<int64_t>((size + kWarpSize - 1) / kWarpSize, 1, kMostWarps));
}

// CTAs of the backward kernel: enough warps to keep memory busy, few parts to sum.
int64_t backward_ctas(const cuda::Context& context, int64_t rows, int64_t size) {
  constexpr int64_t kWarpsOfMultiprocessor = 32;
  const int64_t warps = warps_of(size);
  const int64_t rows_of_cta = warps == 1 ? kTeams : 1;
  const int64_t wanted = std::max<int64_t>(
      context.multiprocessors * kWarpsOfMultiprocessor / (warps == 1 ? kTeams : warps), 1);
  return std::min(wanted, (rows + rows_of_cta - 1) / rows_of_cta);
}

}  // namespace

void run_add_norm(const cuda::Context& context, const AddNormArgs& args) {
  if (args.rows == 0) return;
  const int warps = warps_of(args.size);
  if (warps == 1)
    add_norm<true><<<static_cast<unsigned>((args.rows + kTeams - 1) / kTeams), 32 * kTeams, 0,
                     context.stream>>>(args);
  else
    add_norm<false><<<static_cast<unsigned>(args.rows), 32 * warps, 0, context.stream>>>(args);
  KVASIR_CUDA_LAUNCHED();
}

int64_t add_norm_parts(const cuda::Context& context, int64_t rows, int64_t size) {
  return backward_ctas(context, rows, size) * (warps_of(size) == 1 ? kTeams : 1);
}

void run_add_norm_backward(const cuda::Context& context, const AddNormBackwardArgs& args) {
  if (args.rows == 0) return;
  const int warps = warps_of(args.size);
  const auto ctas = static_cast<unsigned>(backward_ctas(context, args.rows, args.size));
  if (warps == 1)
    add_norm_backward<true><<<ctas, 32 * kTeams, 0, context.stream>>>(args);
  else
    add_norm_backward<false><<<ctas, 32 * warps, 0, context.stream>>>(args);
  KVASIR_CUDA_LAUNCHED();
}

}  // namespace kvasir::kernels

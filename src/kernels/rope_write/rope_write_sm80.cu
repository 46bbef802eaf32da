// Angles once a step; then, per layer, every head of every row by a group of lanes. A lane holds
// pairs of elements that turn together, eight pairs at once where the head's shape allows it, so
// that nothing but the norm's sum crosses lanes. Bound by latency for few rows and by bandwidth for
// many: 4 bytes an element.

#include <algorithm>
#include <bit>

#include "kernels/cuda_device.cuh"
#include "kernels/rope_write/rope_write_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) rope_angles(CudaRopeAnglesArgs args) {
  let_next_begin();
  wait_for_inputs();
  const int half = args.rotary_dim / 2;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= args.rows * half) return;
  const int64_t row = index / half;
  const int i = static_cast<int>(index % half);
  const int64_t table = args.table_of_row ? args.table_of_row[row] : 0;
  const float angle =
      __fmul_rn(static_cast<float>(args.positions[row]), args.frequencies[table * half + i]);
  // In double, as on the CPU: once a step, and at a cost that does not depend on the position.
  double sine, cosine;
  sincos(static_cast<double>(angle), &sine, &cosine);
  float* out = args.cos_sin + row * args.rotary_dim;
  out[i] = static_cast<float>(cosine) * args.factor;
  out[half + i] = static_cast<float>(sine) * args.factor;
}

// kPairs pairs of elements of a head, in two runs of kPairs as they lie in memory.
template <int kPairs>
struct Unit {
  float values[2 * kPairs];
};
struct Places {
  int low = 0;  // where the runs lie in the head
  int high = 0;
  int angle = -1;  // of the first pair; negative: this part of the head does not turn
};

__device__ __forceinline__ Places places_of(int pair, int pairs, int rotary_dim, int head_dim,
                                            bool interleaved) {
  const int half = rotary_dim / 2;
  if (pair >= half) return {half + pair, half + pair + (head_dim - rotary_dim) / 2, -1};
  if (interleaved) return {2 * pair, 2 * pair + pairs, pair};
  return {pair, half + pair, pair};
}

// kCount elements at once, 16 bytes at most.
template <class T, int kCount>
struct alignas(std::min<size_t>(16, kCount * sizeof(T))) Run {
  T values[kCount];
};
template <int kCount, class T>
__device__ __forceinline__ Run<T, kCount> load_run(const T* from) {
  return *reinterpret_cast<const Run<T, kCount>*>(from);
}

template <class T, int kPairs>
__device__ __forceinline__ Unit<kPairs> load_unit(const T* head, const Places& places) {
  const auto low = load_run<kPairs>(head + places.low), high = load_run<kPairs>(head + places.high);
  Unit<kPairs> unit;
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
    unit.values[j] = to_float(low.values[j]);
    unit.values[kPairs + j] = to_float(high.values[j]);
  }
  return unit;
}

template <class T, int kPairs>
__device__ __forceinline__ void store_unit(T* head, const Places& places,
                                           const Unit<kPairs>& unit) {
  Run<T, kPairs> low, high;
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
    low.values[j] = from_float<T>(unit.values[j]);
    high.values[j] = from_float<T>(unit.values[kPairs + j]);
  }
  *reinterpret_cast<Run<T, kPairs>*>(head + places.low) = low;
  *reinterpret_cast<Run<T, kPairs>*>(head + places.high) = high;
}

template <bool kInterleaved, int kPairs>
__device__ __forceinline__ void turn(Unit<kPairs>& unit, const float* angles, int half) {
  const auto cosines = load_run<kPairs>(angles), sines = load_run<kPairs>(angles + half);
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
    float& first = unit.values[kInterleaved ? 2 * j : j];
    float& second = unit.values[kInterleaved ? 2 * j + 1 : kPairs + j];
    const float cosine = cosines.values[j], sine = sines.values[j];
    const float turned = first * cosine - second * sine;
    second = second * cosine + first * sine;
    first = turned;
  }
}

// Where head `head` (queries, then keys, then values) of a row goes; null: padding.
template <class T>
__device__ __forceinline__ T* place_of(const CudaRopeWriteArgs& args, int64_t row, int head) {
  const int head_dim = args.pages.head_dim;
  const int32_t first_page = args.first_page ? args.first_page[row] : 0;
  if (first_page < 0) return nullptr;
  if (head < args.q_heads)
    return static_cast<T*>(args.q_out) + (row * args.q_heads + head) * head_dim;
  const int32_t position = args.positions[row];
  const uint32_t page = args.page_tables[first_page + position / kPageTokens];
  head -= args.q_heads;
  const int kv_heads = args.pages.kv_heads;
  const int64_t piece = head < kv_heads ? 2 * head : 2 * (head - kv_heads) + 1;
  return reinterpret_cast<T*>(args.pages.base + int64_t{page} * args.pages.page_bytes) +
         (piece * kPageTokens + position % kPageTokens) * head_dim;
}

// Some heads of row blockIdx.x. 2^log2_lanes lanes a head; each holds up to kUnits units.
template <class T, int kPairs, int kUnits>
__global__ void __launch_bounds__(kThreads) rope_write(CudaRopeWriteArgs args, int log2_lanes) {
  let_next_begin();
  const int64_t row = blockIdx.x;
  const int lanes = 1 << log2_lanes, lane = threadIdx.x & (lanes - 1);
  const int heads = args.q_heads + (args.has_kv ? 2 * args.pages.kv_heads : 0);
  const int place = blockIdx.y * (kThreads >> log2_lanes) + (threadIdx.x >> log2_lanes);
  const int head = min(place, heads - 1);

  const int head_dim = args.pages.head_dim;
  const bool is_query = head < args.q_heads;
  const bool is_value = head >= args.q_heads + args.pages.kv_heads;
  const int rotary_dim = is_value ? 0 : args.rotary_dim;
  const float* norm = is_query ? args.q_norm : is_value ? nullptr : args.k_norm;
  wait_for_inputs();

  const T* from = static_cast<const T*>(args.qkv) + (row * heads + head) * head_dim;
  Places places[kUnits];
  Unit<kPairs> units[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int pair = (lane + u * lanes) * kPairs;
    if (2 * pair >= head_dim) break;
    places[u] = places_of(pair, kPairs, rotary_dim, head_dim, args.interleaved);
    units[u] = load_unit<T, kPairs>(from, places[u]);
  }
  T* const out = place < heads ? place_of<T>(args, row, head) : nullptr;
  const int64_t angles_row = args.row_index ? args.row_index[row] : row;
  const float* angles = args.cos_sin + angles_row * args.rotary_dim;

  float scale = 1;
  if (args.q_norm || args.k_norm) {  // by all lanes of the warp, as they shuffle
    float sum = 0;
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
      if (2 * (lane + u * lanes) * kPairs < head_dim)
#pragma unroll
        for (const float value : units[u].values) sum += value * value;
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(0xffffffff, sum, distance);
    scale = 1 / sqrtf(sum / static_cast<float>(head_dim) + args.norm_eps);
  }
  if (!out) return;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (2 * (lane + u * lanes) * kPairs >= head_dim) break;
    if (norm) {
      const Unit<kPairs> weights = load_unit<float, kPairs>(norm, places[u]);
#pragma unroll
      for (int j = 0; j < 2 * kPairs; ++j) units[u].values[j] *= scale * weights.values[j];
    }
    if (places[u].angle >= 0) {
      if (args.interleaved)
        turn<true>(units[u], angles + places[u].angle, rotary_dim / 2);
      else
        turn<false>(units[u], angles + places[u].angle, rotary_dim / 2);
    }
    store_unit<T, kPairs>(out, places[u], units[u]);
  }
}

template <class T>
void launch_rope_write(const cuda::Context& context, const CudaRopeWriteArgs& args) {
  const int pairs = args.pages.head_dim / 2;
  const bool in_eights = args.rotary_dim % 16 == 0;
  const int log2_lanes = in_eights ? std::bit_width(static_cast<unsigned>(pairs / 8) - 1) : 5;
  const int heads = args.q_heads + (args.has_kv ? 2 * args.pages.kv_heads : 0);
  const int cta_heads = kThreads >> log2_lanes;
  const dim3 grid(static_cast<unsigned>(args.rows),
                  static_cast<unsigned>((heads + cta_heads - 1) / cta_heads));
  if (in_eights)
    launch(context, rope_write<T, 8, 1>, grid, kThreads, 0, args, log2_lanes);
  else
    launch(context, rope_write<T, 1, 4>, grid, kThreads, 0, args, log2_lanes);
}

}  // namespace

void run_rope_angles(const cuda::Context& context, const CudaRopeAnglesArgs& args) {
  const int64_t count = args.rows * (args.rotary_dim / 2);
  if (count == 0) return;
  launch(context, rope_angles, dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)),
         kThreads, 0, args);
}

void run_rope_write(const cuda::Context& context, const CudaRopeWriteArgs& args) {
  if (args.rows == 0 || args.q_heads + (args.has_kv ? args.pages.kv_heads : 0) == 0) return;
  if (args.pages.dtype == DType::kBF16)
    launch_rope_write<bfloat16>(context, args);
  else
    launch_rope_write<float16>(context, args);
}

}  // namespace kvasir::kernels

// A thread works on kWidth pairs of a head: vectors of four where sizes allow. Threads behind the
// pairs copy what does not rotate.

#include "kernels/cuda_device.cuh"
#include "kernels/rotate/rotate_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 256;

template <int kWidth>
struct alignas(kWidth * 2) Some {
  bfloat16 values[kWidth];
};

// Where the pairs of `unit` lie in a head: `a` and `b` are the first elements of both sides.
struct Pairs {
  int a, b, angle;
};

template <int kWidth>
__device__ __forceinline__ Pairs pairs_of(const RotateArgs& args, int unit) {
  const int first = unit * kWidth;
  if (args.interleaved) return {2 * first, 2 * first + kWidth, first};
  return {first, first + args.rotary_dim / 2, first};
}

// Rotates the pairs in a and b; `sign` -1 turns back. Interleaved: a and b are neighbours, and
// pairs are neighbours within them (kWidth even) or a with b (kWidth 1).
template <int kWidth>
__device__ __forceinline__ void turn(const RotateArgs& args, Some<kWidth>& a, Some<kWidth>& b,
                                     const float* table, int angle, float sign) {
  const float* cosines = table + angle;
  const float* sines = cosines + args.rotary_dim / 2;
  float in[2 * kWidth], out[2 * kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    in[i] = to_float(a.values[i]);
    in[kWidth + i] = to_float(b.values[i]);
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float c = cosines[i], s = sign * sines[i];
    if (args.interleaved) {
      out[2 * i] = in[2 * i] * c - in[2 * i + 1] * s;
      out[2 * i + 1] = in[2 * i + 1] * c + in[2 * i] * s;
    } else {
      out[i] = in[i] * c - in[kWidth + i] * s;
      out[kWidth + i] = in[kWidth + i] * c + in[i] * s;
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    a.values[i] = from_float<bfloat16>(out[i]);
    b.values[i] = from_float<bfloat16>(out[kWidth + i]);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) rotate(RotateArgs args) {
  const int units = args.rotary_dim / 2 / kWidth, heads = args.q_heads + args.kv_heads;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t row = index / (units * heads);
  if (row >= args.rows) return;
  const int rest = static_cast<int>(index % (units * heads));
  const int head = rest / units;
  const Pairs pairs = pairs_of<kWidth>(args, rest % units);
  bfloat16* data =
      static_cast<bfloat16*>(args.qkv) + (row * (heads + args.kv_heads) + head) * args.head_dim;
  auto* a = reinterpret_cast<Some<kWidth>*>(data + pairs.a);
  auto* b = reinterpret_cast<Some<kWidth>*>(data + pairs.b);
  Some<kWidth> held_a = *a, held_b = *b;
  turn<kWidth>(args, held_a, held_b, args.cos_sin + args.rotation[row] * args.rotary_dim,
               pairs.angle, 1);
  *a = held_a;
  *b = held_b;
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) rotate_back(RotateBackArgs back) {
  const RotateArgs& args = back.heads;
  const int units = args.head_dim / 2 / kWidth, rotating = args.rotary_dim / 2 / kWidth;
  const int keys = args.q_heads, values = keys + args.kv_heads, heads = values + args.kv_heads;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t row = index / (units * heads);
  if (row >= args.rows) return;
  const int rest = static_cast<int>(index % (units * heads));
  const int head = rest / units, unit = rest % units;
  const auto* from = static_cast<const bfloat16*>(head < keys     ? back.d_q
                                                  : head < values ? back.d_k
                                                                  : back.d_v);
  const int of_its_kind = head < keys ? head : head < values ? head - keys : head - values;
  from += (row * (head < keys ? args.q_heads : args.kv_heads) + of_its_kind) * args.head_dim;
  bfloat16* to = static_cast<bfloat16*>(args.qkv) + (row * heads + head) * args.head_dim;
  const bool rotates = head < values && unit < rotating;
  // What does not rotate is copied: behind the pairs, two vectors a thread.
  const Pairs pairs =
      rotates ? pairs_of<kWidth>(args, unit) : Pairs{2 * unit * kWidth, (2 * unit + 1) * kWidth, 0};
  auto a = *reinterpret_cast<const Some<kWidth>*>(from + pairs.a);
  auto b = *reinterpret_cast<const Some<kWidth>*>(from + pairs.b);
  if (rotates)
    turn<kWidth>(args, a, b, args.cos_sin + args.rotation[row] * args.rotary_dim, pairs.angle, -1);
  *reinterpret_cast<Some<kWidth>*>(to + pairs.a) = a;
  *reinterpret_cast<Some<kWidth>*>(to + pairs.b) = b;
}

bool has_vectors(const RotateArgs& args) {
  return args.head_dim % 8 == 0 && args.rotary_dim % 8 == 0;
}

unsigned ctas(const RotateArgs& args, int heads, int pairs, int width) {
  return static_cast<unsigned>((args.rows * heads * (pairs / width) + kThreads - 1) / kThreads);
}

}  // namespace

void run_rotate(const cuda::Context& context, const RotateArgs& args) {
  if (args.rows == 0) return;
  const int heads = args.q_heads + args.kv_heads, pairs = args.rotary_dim / 2;
  if (has_vectors(args))
    rotate<4><<<ctas(args, heads, pairs, 4), kThreads, 0, context.stream>>>(args);
  else
    rotate<1><<<ctas(args, heads, pairs, 1), kThreads, 0, context.stream>>>(args);
  KVASIR_CUDA_LAUNCHED();
}

void run_rotate_back(const cuda::Context& context, const RotateBackArgs& args) {
  if (args.heads.rows == 0) return;
  const int heads = args.heads.q_heads + 2 * args.heads.kv_heads, pairs = args.heads.head_dim / 2;
  if (has_vectors(args.heads))
    rotate_back<4><<<ctas(args.heads, heads, pairs, 4), kThreads, 0, context.stream>>>(args);
  else
    rotate_back<1><<<ctas(args.heads, heads, pairs, 1), kThreads, 0, context.stream>>>(args);
  KVASIR_CUDA_LAUNCHED();
}

}  // namespace kvasir::kernels

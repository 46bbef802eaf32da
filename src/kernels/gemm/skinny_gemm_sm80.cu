// A stream over the weights, shared out by rows: a CTA takes tiles of 16 * kRowTiles rows, its
// warps each a part of every step of k, and the tensor cores multiply rows of weights (their A) by
// up to 32 rows of activations (their B, 8 at a time).
//
// Each thread copies the very pieces that it will multiply, 16 bytes of a row, into its own places
// of a ring in shared memory: no two threads ever wait for each other inside a tile, the ring runs
// on into the next tile, and the bytes in flight are bounded by shared memory, not by registers.
// The k of a product may be permuted if both sides are: a piece of 8 consecutive k is what one
// thread holds of two instructions, so neither side is shuffled.
//
// Weights do not depend on the kernel before: the ring is filled with them before its end is
// awaited, so that memory is busy while kernels change.
//
// An output's chain: each warp sums its k in ascending order, then the warps' sums are added in
// ascending order. It depends on k alone.

#include <algorithm>

#include "kernels/cuda_device.cuh"
#include "kernels/gemm/skinny_gemm_cuda.h"
#include "kernels/mma_sm80.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kPiece = 8;  // elements in 16 bytes
constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kWarpStep = 4 * kPiece;      // of a row, by the four threads that share it
constexpr int kStep = kWarps * kWarpStep;  // k
// Two CTAs with their rings fit a multiprocessor, this product's and the next one's, and no third.
constexpr int kRingBytes = 96 * 1024;
// Where a CTA may have 99 KiB at most (8.6, 8.9, 12.0).
constexpr int kSmallRingBytes = 80 * 1024;

template <int kRowTiles_, int kColumnTiles_, int kRing>
struct Tile {
  static constexpr int kRowTiles = kRowTiles_, kColumnTiles = kColumnTiles_;
  static constexpr int kRows = 16 * kRowTiles;
  static constexpr int kPieces = 2 * kRowTiles + kColumnTiles;  // of a thread in a step
  static constexpr int kStageBytes = kPieces * kThreads * 16;
  static constexpr int kStages = kRing / kStageBytes;
  // Sums of one column tile: [warps][8][kRows], columns padded against bank conflicts. Two of them,
  // so that one barrier a column tile is enough.
  static constexpr int kSumStride = kRows + 4;
  static constexpr int kSums = kWarps * 8 * kSumStride;
  static constexpr int kSharedBytes = kStages * kStageBytes + 2 * kSums * 4;
};

// 16 bytes from global to shared memory; zeros where not `valid`.
__device__ __forceinline__ void copy_piece(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ uint4 load_piece(uint32_t from) {
  uint4 piece;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(piece.x), "=r"(piece.y), "=r"(piece.z), "=r"(piece.w)
               : "r"(from)
               : "memory");
  return piece;
}

// Consecutive outputs (columns of C).
struct Outputs {
  int64_t begin = 0;
  int count = 0;
};

// The outputs of a CTA, cut into as few tiles as hold them, of even sizes.
template <class TileShape>
struct Share {
  Outputs all;
  int tiles;

  __device__ __forceinline__ explicit Share(const SkinnyGemmArgs& args) {
    const bool is_gated = args.epilogue == Epilogue::kSiluMul;
    const int64_t outputs = is_gated ? args.n / 2 : args.n;
    const int most = is_gated ? TileShape::kRows / 2 : TileShape::kRows;
    all.begin = outputs * blockIdx.x / gridDim.x;
    all.count = static_cast<int>(outputs * (blockIdx.x + 1) / gridDim.x - all.begin);
    tiles = (all.count + most - 1) / most;
  }
  __device__ __forceinline__ Outputs tile(int index) const {
    const int first = all.count * index / tiles;
    return {all.begin + first, all.count * (index + 1) / tiles - first};
  }
};

// One thread's share of a tile's weights: a row of the lower and of the upper half of each row
// tile, one piece of every step. A row tile is 16 rows: for kSiluMul 8 of gate and the same 8 of
// up, else 16 consecutive ones.
template <class T, class TileShape>
struct WeightReader {
  const T* low;          // the first row's piece of the next step
  int64_t to_high;       // elements
  int64_t to_next;       // row tile
  uint32_t present = 0;  // a bit a row; the others are not read

  __device__ __forceinline__ void enter(const SkinnyGemmArgs& args, Outputs tile, int row,
                                        int first_k) {
    const bool is_gated = args.epilogue == Epilogue::kSiluMul;
    low = static_cast<const T*>(args.weight) + (tile.begin + row) * args.k + first_k;
    to_high = (is_gated ? args.n / 2 : 8) * args.k;
    to_next = (is_gated ? 8 : 16) * args.k;
    present = 0;
#pragma unroll
    for (int i = 0; i < TileShape::kRowTiles; ++i) {
      const int output = (is_gated ? 8 : 16) * i + row;
      if (output < tile.count) present |= 1u << 2 * i;
      if (output + (is_gated ? 0 : 8) < tile.count) present |= 2u << 2 * i;
    }
  }
  __device__ __forceinline__ void read(uint32_t to, bool valid) {
    const uint32_t rows = valid ? present : 0;
    const T* from = low;
#pragma unroll
    for (int i = 0; i < TileShape::kRowTiles; ++i, from += to_next) {
      copy_piece(to + 2 * i * kThreads * 16, from, rows >> 2 * i & 1);
      copy_piece(to + (2 * i + 1) * kThreads * 16, from + to_high, rows >> 2 * i & 2);
    }
    low += kStep;
  }
};

template <class T, class TileShape>
struct ActivationReader {
  const T* column;   // the first column tile's piece of step 0
  int64_t to_next;   // column tile
  uint32_t present;  // a bit a column tile

  __device__ __forceinline__ void enter(const SkinnyGemmArgs& args, int index, int first_k) {
    column = static_cast<const T*>(args.a) + index * args.a_row_stride + first_k;
    to_next = 8 * args.a_row_stride;
    present = 0;
#pragma unroll
    for (int j = 0; j < TileShape::kColumnTiles; ++j)
      if (8 * j + index < args.m) present |= 1u << j;
  }
  __device__ __forceinline__ void read(uint32_t to, int step, bool valid) const {
    const uint32_t columns = valid ? present : 0;
    const T* from = column + step * kStep;
    to += 2 * TileShape::kRowTiles * kThreads * 16;
#pragma unroll
    for (int j = 0; j < TileShape::kColumnTiles; ++j, from += to_next)
      copy_piece(to + j * kThreads * 16, from, columns >> j & 1);
  }
};

template <class T, class TileShape>
__device__ __forceinline__ void multiply_stage(
    uint32_t stage, float (&sums)[TileShape::kRowTiles][TileShape::kColumnTiles][4]) {
  constexpr int kBytes = kThreads * 16;
  uint4 x[TileShape::kColumnTiles];
#pragma unroll
  for (int j = 0; j < TileShape::kColumnTiles; ++j)
    x[j] = load_piece(stage + (2 * TileShape::kRowTiles + j) * kBytes);
#pragma unroll
  for (int i = 0; i < TileShape::kRowTiles; ++i) {
    const uint4 low = load_piece(stage + 2 * i * kBytes);
    const uint4 high = load_piece(stage + (2 * i + 1) * kBytes);
#pragma unroll
    for (int j = 0; j < TileShape::kColumnTiles; ++j)
      multiply_add<T>(sums[i][j], {low.x, high.x, low.y, high.y}, x[j].x, x[j].y);
#pragma unroll
    for (int j = 0; j < TileShape::kColumnTiles; ++j)
      multiply_add<T>(sums[i][j], {low.z, high.z, low.w, high.w}, x[j].z, x[j].w);
  }
}

__device__ __forceinline__ void store(const SkinnyGemmArgs& args, int64_t row, int64_t column,
                                      float value) {
  const int64_t place = row * args.c_row_stride + column;
  if (args.epilogue == Epilogue::kAdd)
    atomicAdd(static_cast<float*>(args.c) + place, value);  // alone there; need not wait for C
  else if (args.c_dtype == DType::kF32)
    static_cast<float*>(args.c)[place] = value;
  else if (args.c_dtype == DType::kBF16)
    static_cast<bfloat16*>(args.c)[place] = from_float<bfloat16>(value);
  else
    static_cast<float16*>(args.c)[place] = from_float<float16>(value);
}

// The warps' sums of one column tile (rows first_row.. of C) into C.
template <class TileShape>
__device__ __forceinline__ void finish_columns(const SkinnyGemmArgs& args, Outputs tile,
                                               int first_row, const float* sums) {
  const auto sum = [&](int row, int column) {
    const float* part = sums + column * TileShape::kSumStride + row;
    float value = part[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) value += part[warp * 8 * TileShape::kSumStride];
    return value;
  };
  const bool is_gated = args.epilogue == Epilogue::kSiluMul;
  const int columns = min(8, static_cast<int>(args.m) - first_row);
  for (int i = threadIdx.x; i < tile.count * columns; i += kThreads) {
    const int column = i / tile.count, index = i % tile.count;
    const int64_t output = tile.begin + index;
    const int row = is_gated ? index / 8 * 16 + index % 8 : index;
    float value = sum(row, column);
    if (args.bias) value += args.bias[output];
    if (is_gated) {
      float up = sum(row + 8, column);
      if (args.bias) up += args.bias[args.n / 2 + output];
      value = value / (1 + expf(-value)) * up;
    }
    store(args, first_row + column, output, value);
  }
}

template <class T, class TileShape>
__global__ void __launch_bounds__(kThreads) skinny_gemm(SkinnyGemmArgs args) {
  constexpr int kStages = TileShape::kStages;
  extern __shared__ __align__(16) unsigned char shared[];
  let_next_begin();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first_k = warp * kWarpStep + lane % 4 * kPiece;
  const int k = static_cast<int>(args.k);
  const int steps = (k + kStep - 1) / kStep;
  const auto in_row = [&](int step) { return first_k + step * kStep < k; };
  const Share<TileShape> share(args);
  const int total = steps * share.tiles;
  const uint32_t ring = shared_address(shared) + threadIdx.x * 16;

  // What is read lies `ahead` of what is multiplied.
  WeightReader<T, TileShape> weights;
  int read_tile = 0, read_step = 0, ahead = 0;
  weights.enter(args, share.tile(0), lane / 4, first_k);
  const auto advance = [&] {
    ++ahead;
    if (++read_step < steps) return;
    read_step = 0;
    if (++read_tile < share.tiles) weights.enter(args, share.tile(read_tile), lane / 4, first_k);
  };
  for (int stage = 0; stage < kStages && ahead < total; ++stage) {
    weights.read(ring + stage * TileShape::kStageBytes, in_row(read_step));
    advance();
  }
  commit_copies();

  wait_for_inputs();
  ActivationReader<T, TileShape> activations;
  activations.enter(args, lane / 4, first_k);
  for (int stage = 0; stage < kStages; ++stage) {
    const int step = stage % steps;
    if (stage < total) activations.read(ring + stage * TileShape::kStageBytes, step, in_row(step));
    commit_copies();
  }

  uint32_t stage = ring;
  float* const sums_shared = reinterpret_cast<float*>(shared + kStages * TileShape::kStageBytes);
  int turn = 0;
  for (int tile = 0; tile < share.tiles; ++tile) {
    float sums[TileShape::kRowTiles][TileShape::kColumnTiles][4] = {};
    for (int step = 0; step < steps; ++step) {
      wait_for_copies<kStages - 1>();
      multiply_stage<T, TileShape>(stage, sums);
      if (ahead < total) {
        const bool valid = in_row(read_step);
        weights.read(stage, valid);
        activations.read(stage, read_step, valid);
        advance();
      }
      commit_copies();
      stage += TileShape::kStageBytes;
      if (stage == ring + kStages * TileShape::kStageBytes) stage = ring;
    }
#pragma unroll
    for (int j = 0; j < TileShape::kColumnTiles; ++j, turn ^= 1) {
      if (8 * j >= args.m) break;
      float* const all = sums_shared + turn * TileShape::kSums;
      float* const own = all + (warp * 8 + lane % 4 * 2) * TileShape::kSumStride + lane / 4;
#pragma unroll
      for (int i = 0; i < TileShape::kRowTiles; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          own[e % 2 * TileShape::kSumStride + 16 * i + e / 2 * 8] = sums[i][j][e];
      __syncthreads();
      finish_columns<TileShape>(args, share.tile(tile), 8 * j, all);
    }
  }
}

template <class T, class TileShape>
void launch_tile(const cuda::Context& context, const SkinnyGemmArgs& args) {
  const int64_t outputs = args.epilogue == Epilogue::kSiluMul ? args.n / 2 : args.n;
  // One CTA a multiprocessor and exactly as many: two of one product on the same one would share
  // its part of the bandwidth and end last.
  const int64_t grid = std::min<int64_t>(context.multiprocessors, (outputs + 7) / 8);
  KVASIR_CUDA(cudaFuncSetAttribute(skinny_gemm<T, TileShape>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   TileShape::kSharedBytes));
  launch(context, skinny_gemm<T, TileShape>, dim3(static_cast<unsigned>(grid)), kThreads,
         TileShape::kSharedBytes, args);
}

template <class T, int kRowTiles, int kColumnTiles>
void launch_where_it_fits(const cuda::Context& context, const SkinnyGemmArgs& args) {
  using Large = Tile<kRowTiles, kColumnTiles, kRingBytes>;
  using Small = Tile<kRowTiles, kColumnTiles, kSmallRingBytes>;
  static_assert(Small::kSharedBytes <= 99 * 1024 && Small::kStages >= 2);
  int device = 0, most = 0;
  KVASIR_CUDA(cudaGetDevice(&device));
  KVASIR_CUDA(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (most >= Large::kSharedBytes) return launch_tile<T, Large>(context, args);
  launch_tile<T, Small>(context, args);
}

template <class T, int kRowTiles>
void launch_columns(const cuda::Context& context, const SkinnyGemmArgs& args) {
  if (args.m <= 8) return launch_where_it_fits<T, kRowTiles, 1>(context, args);
  if (args.m <= 16) return launch_where_it_fits<T, kRowTiles, 2>(context, args);
  launch_where_it_fits<T, kRowTiles, 4>(context, args);
}

template <class T>
void launch_rows(const cuda::Context& context, const SkinnyGemmArgs& args) {
  const int64_t rows = (args.n + context.multiprocessors - 1) / context.multiprocessors;  // a CTA
  const int64_t low = (rows + 15) / 16 * 16, high = (rows + 31) / 32 * 32;
  // High tiles read activations half as often, but those that stay empty hold a part of the ring.
  if (5 * high > 6 * low) return launch_columns<T, 1>(context, args);
  launch_columns<T, 2>(context, args);
}

}  // namespace

void run_skinny_gemm(const cuda::Context& context, const SkinnyGemmArgs& args) {
  if (args.dtype == DType::kBF16)
    launch_rows<bfloat16>(context, args);
  else
    launch_rows<float16>(context, args);
}

}  // namespace kvasir::kernels

#pragma once
// Attention of a tile of rows with mma.sync, piece by piece: what the dense kernel and the one that
// executes plans do with a tile of keys (FlashAttention-2: Dao, 2023, arXiv:2307.08691, algorithm
// 1). A block takes a tile of rows of one head; its warps keep 16 or 32 rows' sums each. What a
// warp need not rescale (no maximum rose) it leaves.
//
// Rows in shared memory are 16 bytes longer than their elements: eight rows in a row then lie on
// different banks at every column, and addresses stay sums.

#include <algorithm>
#include <cmath>

#include "kernels/cuda_device.cuh"
#include "kernels/mma_sm80.cuh"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels::sm80::prefill {

inline constexpr int kKeyTile = static_cast<int>(kPageTokens);
inline constexpr float kLog2E = 1.44269504f;

// How a block is cut for heads of up to kHeadDim elements.
template <int kHeadDim_, int kBlocksOfRows_, int kWarps_, int kBlocksPerMultiprocessor_>
struct Cut {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kBlocksOfRows = kBlocksOfRows_;  // of 16 rows, a warp
  static constexpr int kWarps = kWarps_;
  static constexpr int kBlocksPerMultiprocessor = kBlocksPerMultiprocessor_;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kWarpRows = kBlocksOfRows * 16;
  static constexpr int kRowTile = kWarpRows * kWarps;
  static constexpr int kRowBytes = kHeadDim * 2 + 16;
  static constexpr int kQueryBytes = kRowTile * kRowBytes;
  static constexpr int kTileBytes = kKeyTile * kRowBytes;  // of keys or of values
};
using Cut64 = Cut<64, 2, 4, 2>;
using Cut80 = Cut<80, 2, 4, 2>;
using Cut96 = Cut<96, 2, 4, 2>;
using Cut128 = Cut<128, 2, 4, 2>;
using Cut256 = Cut<256, 1, 8, 1>;
using Cut256Small = Cut<256, 1, 4, 1>;  // for multiprocessors with 100 KB of shared memory

// A tile of rows of a span, in the list that build writes: every head's blocks go through it.
struct RowTile {
  int32_t span;
  int32_t first_row;  // in the span
};
// The workspace: how many tiles there are, 16 bytes further the tiles.
__device__ inline RowTile* row_tiles(const CudaAttentionArgs& args) {
  return reinterpret_cast<RowTile*>(args.workspace + 16);
}

// Rows of kHeadDim 16-bit elements, whose memory has `valid_chunks` chunks of 8 elements in each of
// `valid_rows` rows `stride_bytes` apart; zeros where there is nothing.
template <class C, int kRows>
__device__ __forceinline__ void copy_rows(uint32_t to, const std::byte* from, int64_t stride_bytes,
                                          int valid_rows, int valid_chunks) {
  constexpr int kChunks = C::kHeadDim / 8, kCopies = kRows * kChunks / C::kThreads;
  static_assert(kRows * kChunks % C::kThreads == 0);
  const int thread = static_cast<int>(threadIdx.x);
  // Where this thread's copy i goes; one address and constants where every copy has its column.
  const uint32_t first = to + (thread + thread / kChunks) * 16;
  const auto place = [&](int i) -> uint32_t {
    if (C::kThreads % kChunks == 0) return first + i * (C::kThreads + C::kThreads / kChunks) * 16;
    const int at = thread + i * C::kThreads;
    return to + (at + at / kChunks) * 16;
  };
  if (valid_rows >= kRows && stride_bytes == kChunks * 16) {  // one run of bytes
    from += thread * 16;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) copy_async(place(i), from + i * C::kThreads * 16);
    return;
  }
  // Rare, so it may not cost the other way registers.
#pragma unroll 1
  for (int at = thread; at < kRows * kChunks; at += C::kThreads) {
    const int row = at / kChunks, chunk = at % kChunks;
    const bool valid = row < valid_rows && chunk < valid_chunks;
    copy_async_or_zero(to + (at + row) * 16, valid ? from + row * stride_bytes + chunk * 16 : from,
                       valid);
  }
}

// The rows of one warp: running maxima of raw scores, sums of weights (of this lane's keys) and of
// weighted values. A lane has rows lane / 4 and lane / 4 + 8 of each block of 16.
template <class T, class C>
struct WarpRows {
  float maxima[C::kBlocksOfRows][2];
  float denominators[C::kBlocksOfRows][2];
  float sums[C::kBlocksOfRows][C::kHeadDim / 8][4];

  __device__ __forceinline__ WarpRows() {
#pragma unroll
    for (int block = 0; block < C::kBlocksOfRows; ++block) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        maxima[block][half] = -INFINITY;
        denominators[block][half] = 0;
      }
#pragma unroll
      for (int i = 0; i < C::kHeadDim / 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[block][i][j] = 0;
    }
  }
};

template <class C>
using Scores = float[C::kBlocksOfRows][kKeyTile / 8][4];

template <class T, class C>
__device__ __forceinline__ void score_keys(Scores<C>& scores, uint32_t queries, uint32_t keys) {
#pragma unroll
  for (int step = 0; step < C::kHeadDim / 16; ++step) {
    uint32_t q[C::kBlocksOfRows][4];
#pragma unroll
    for (int block = 0; block < C::kBlocksOfRows; ++block)
      load_matrices(q[block], queries + block * 16 * C::kRowBytes + step * 32);
#pragma unroll
    for (int pair = 0; pair < kKeyTile / 16; ++pair) {
      uint32_t k[4];
      load_matrices(k, keys + pair * 16 * C::kRowBytes + step * 32);
#pragma unroll
      for (int block = 0; block < C::kBlocksOfRows; ++block) {
        float(&first)[4] = scores[block][2 * pair], (&second)[4] = scores[block][2 * pair + 1];
        if (step == 0) {
          multiply<T>(first, q[block], k[0], k[1]);
          multiply<T>(second, q[block], k[2], k[3]);
        } else {
          multiply_add<T>(first, q[block], k[0], k[1]);
          multiply_add<T>(second, q[block], k[2], k[3]);
        }
      }
    }
  }
}

// From scores to weights, with what is summed so far scaled to the new maxima. Maxima that do not
// rise leave every bit as it is.
template <class T, class C>
__device__ __forceinline__ void weigh(Scores<C>& scores, WarpRows<T, C>& rows, float scale_log2) {
  float shrink[C::kBlocksOfRows][2];
  bool rose = false;
#pragma unroll
  for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float before = rows.maxima[block][half];
      float maximum = before;
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
        maximum = fmaxf(maximum, fmaxf(scores[block][i][half * 2], scores[block][i][half * 2 + 1]));
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
      rows.maxima[block][half] = maximum;
      rose |= maximum > before;
      const float zero = maximum == -INFINITY ? 0 : maximum;  // no key was visible yet
      shrink[block][half] = fast_exp2((before - zero) * scale_log2);
      const float shift = zero * scale_log2;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& score = scores[block][i][half * 2 + j];
          score = fast_exp2(fmaf(score, scale_log2, -shift));
          sum += score;
        }
      rows.denominators[block][half] = rows.denominators[block][half] * shrink[block][half] + sum;
    }
  if (!__any_sync(~0u, rose)) return;
#pragma unroll
  for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
    for (int i = 0; i < C::kHeadDim / 8; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) rows.sums[block][i][j] *= shrink[block][j / 2];
}

template <class T, class C>
__device__ __forceinline__ void add_values(const Scores<C>& weights, WarpRows<T, C>& rows,
                                           uint32_t values) {
#pragma unroll
  for (int step = 0; step < kKeyTile / 16; ++step) {
    uint32_t p[C::kBlocksOfRows][4];
#pragma unroll
    for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* from = &weights[block][2 * step + i / 2][i % 2 * 2];
        p[block][i] = pack_pair<T>(from[0], from[1]);
      }
#pragma unroll
    for (int pair = 0; pair < C::kHeadDim / 16; ++pair) {
      uint32_t v[4];
      load_transposed(v, values + step * 16 * C::kRowBytes + pair * 32);
#pragma unroll
      for (int block = 0; block < C::kBlocksOfRows; ++block) {
        multiply_add<T>(rows.sums[block][2 * pair], p[block], v[0], v[1]);
        multiply_add<T>(rows.sums[block][2 * pair + 1], p[block], v[2], v[3]);
      }
    }
  }
}

// Divides, and writes `count` rows from `row` (of q, out and lse) on, by way of the warp's own rows
// of shared memory.
template <class T, class C>
__device__ __forceinline__ void write_rows(const CudaAttentionArgs& args, WarpRows<T, C>& rows,
                                           std::byte* shared, int64_t row, int head, int count) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = rows.denominators[block][half];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      const float inverse = sum > 0 ? 1 / sum : 0;
      const int at = block * 16 + half * 8 + lane / 4;
      std::byte* to = shared + at * C::kRowBytes + lane % 4 * 4;
#pragma unroll
      for (int i = 0; i < C::kHeadDim / 8; ++i)
        *reinterpret_cast<uint32_t*>(to + i * 16) = pack_pair<T>(
            rows.sums[block][i][half * 2] * inverse, rows.sums[block][i][half * 2 + 1] * inverse);
      if (args.lse && lane % 4 == 0 && at < count)
        args.lse[(row + at) * args.q_heads + head] =
            sum > 0 ? rows.maxima[block][half] * args.scale + logf(sum) : -INFINITY;
    }
  __syncwarp();
  const int chunks = args.pages.head_dim / 8;
  T* out =
      static_cast<T*>(args.out) + row * args.out_row_stride + int64_t{head} * args.pages.head_dim;
  for (int i = lane; i < count * chunks; i += 32) {
    const int at = i / chunks, chunk = i % chunks;
    *reinterpret_cast<uint4*>(out + at * args.out_row_stride + chunk * 8) =
        *reinterpret_cast<const uint4*>(shared + at * C::kRowBytes + chunk * 16);
  }
}

// Of one block and of one multiprocessor, by the CUDA programming guide's table of features.
struct SharedLimits {
  int block_bytes, multiprocessor_bytes;
};
inline SharedLimits shared_limits(int compute_capability) {
  if (compute_capability >= 90 && compute_capability < 120) return {227 * 1024, 228 * 1024};
  if (compute_capability == 80 || compute_capability == 87) return {163 * 1024, 164 * 1024};
  return {99 * 1024, 100 * 1024};
}

// Row tiles of spans of `rows` rows together: every span but its last tile full.
inline int64_t most_tiles(int64_t tile_rows, int64_t spans, int64_t rows) {
  return std::min(rows, (rows + spans * (tile_rows - 1)) / tile_rows);
}

// Runs the spans that have plans, over the list of row tiles of `tile_rows`.
void run_plans(const cuda::Context& context, const CudaAttentionArgs& args, int tile_rows);

}  // namespace kvasir::kernels::sm80::prefill

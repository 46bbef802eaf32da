// FlashAttention-2 (Dao, 2023, arXiv:2307.08691, algorithm 1) over pages, with mma.sync: a block
// takes a tile of rows of one head; its warps keep 16 or 32 rows' sums each and go through the keys
// in tiles of one page. Differences: keys come from pages; what a warp need not rescale (no maximum
// rose) it leaves; a tile without visible keys for a warp's rows is skipped by that warp.
//
// Rows in shared memory are 16 bytes longer than their elements: eight rows in a row then lie on
// different banks at every column, and addresses stay sums.

#include <algorithm>
#include <cmath>

#include "kernels/cuda_device.cuh"
#include "kernels/mma_sm80.cuh"
#include "kernels/paged_attention/prefill_attention_table.h"

namespace kvasir::kernels {
namespace {

constexpr int kKeyTile = static_cast<int>(kPageTokens);
constexpr float kLog2E = 1.44269504f;

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
__device__ RowTile* row_tiles(const CudaAttentionArgs& args) {
  return reinterpret_cast<RowTile*>(args.workspace + 16);
}

// The key tiles [first, end) with visible keys of the positions [from, to].
struct KeyTiles {
  int first, end;
};
__host__ __device__ inline KeyTiles key_tiles(int64_t from, int64_t to, int64_t window) {
  if (to < 0) return {0, 0};
  const int64_t lowest = window > 0 && from + 1 > window ? from + 1 - window : 0;
  return {static_cast<int>(lowest / kKeyTile), static_cast<int>(to / kKeyTile) + 1};
}

// --- build: the list of row tiles, longest first.

constexpr int kListThreads = 1024;  // and as many lengths told apart

__global__ void __launch_bounds__(kListThreads)
    list_row_tiles(CudaAttentionArgs args, int tile_rows, int capacity) {
  __shared__ int places[kListThreads];
  __shared__ int warp_sums[32];
  __shared__ int longest;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  places[thread] = 0;
  if (thread == 0) longest = 1;
  wait_for_inputs();
  let_next_begin();
  __syncthreads();

  const auto each_tile = [&](auto&& use) {
    for (int i = warp; i < args.span_count; i += kListThreads / 32) {
      const CudaAttentionSpan span = args.spans[i];
      for (int row = lane * tile_rows; row < span.rows; row += 32 * tile_rows) {
        const int64_t from = int64_t{span.query_offset} + row;
        const KeyTiles tiles =
            key_tiles(from, from + min(tile_rows, span.rows - row) - 1, args.window);
        use(RowTile{i, row}, tiles.end - tiles.first);
      }
    }
  };
  each_tile([&](RowTile, int length) { atomicMax(&longest, length); });
  __syncthreads();
  const float step = static_cast<float>(kListThreads - 1) / static_cast<float>(longest);
  // The longest come into place 0.
  const auto place_of = [&](int length) {
    return kListThreads - 1 - static_cast<int>(static_cast<float>(length) * step);
  };
  each_tile([&](RowTile, int length) { atomicAdd(&places[place_of(length)], 1); });
  __syncthreads();

  // From counts to where each place begins.
  const int count = places[thread];
  int sum = count;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int before = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += before;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  for (int i = 0; i < warp; ++i) sum += warp_sums[i];
  places[thread] = sum - count;
  if (thread == kListThreads - 1) *reinterpret_cast<int*>(args.workspace) = min(sum, capacity);
  __syncthreads();
  each_tile([&](RowTile tile, int length) {
    const int at = atomicAdd(&places[place_of(length)], 1);
    if (at < capacity) row_tiles(args)[at] = tile;
  });
}

// --- run

// What a block works on.
struct Task {
  CudaAttentionSpan span;
  int head;
  int first_row;  // in the span
  int rows;       // that the tile has of it
  KeyTiles keys;
};

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

// `position` of the warp's first row, `key` of the tile's first.
template <class C>
__device__ __forceinline__ void mask_keys(Scores<C>& scores, int position, int key,
                                          int64_t window) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // Key i of a row is visible where lowest < i <= highest.
  const int before = window > 0 ? static_cast<int>(min(window, int64_t{1} << 30)) : 1 << 30;
#pragma unroll
  for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int highest = position + block * 16 + half * 8 + lane / 4 - key - lane % 4 * 2;
      const int lowest = highest - before;
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          if (i * 8 + j > highest || i * 8 + j <= lowest)
            scores[block][i][half * 2 + j] = -INFINITY;
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

// Keys and values of a tile lie side by side in one of `stages` places. Two: a tile arrives while
// the one before it is worked on. One: values arrive during the scores, the next keys during the
// values' product.
template <class T, class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocksPerMultiprocessor)
    prefill_attention(CudaAttentionArgs args, int stages) {
  extern __shared__ __align__(16) std::byte shared[];
  wait_for_inputs();
  let_next_begin();
  const PagePool& pages = args.pages;
  const int group = args.q_heads / pages.kv_heads;
  if (static_cast<int>(blockIdx.x) / group >= *reinterpret_cast<const int*>(args.workspace)) return;
  const RowTile tile = row_tiles(args)[blockIdx.x / group];
  const CudaAttentionSpan span = args.spans[tile.span];
  const int kv_head = static_cast<int>(blockIdx.y);
  const int head = kv_head * group + static_cast<int>(blockIdx.x) % group;
  const int tile_count = min(C::kRowTile, span.rows - tile.first_row);
  const int tile_position = span.query_offset + tile.first_row;
  const int64_t tile_row = int64_t{span.first_row} + tile.first_row;
  const KeyTiles keys = key_tiles(tile_position, tile_position + tile_count - 1, args.window);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int count = min(C::kWarpRows, tile_count - warp * C::kWarpRows);  // this warp's rows
  const int position = tile_position + warp * C::kWarpRows;
  // The key tiles of this warp's rows (had it all of them: what is masked adds nothing).
  const KeyTiles own =
      count > 0 ? key_tiles(position, position + C::kWarpRows - 1, args.window) : KeyTiles{0, 0};

  const uint32_t queries = shared_address(shared);
  const uint32_t first_stage = queries + C::kQueryBytes;
  const int chunks = pages.head_dim / 8;
  const int64_t row_bytes = pages.head_dim * 2;
  const int64_t values_offset = kKeyTile * row_bytes;
  const std::byte* head_base = pages.base + kv_head * 2 * values_offset;
  const uint32_t* table = args.page_tables + span.first_page;
  const int length = span.query_offset + span.rows;
  const auto copy_keys = [&](uint32_t to, const std::byte* page, int key_tile) {
    copy_rows<C, kKeyTile>(to, page, row_bytes, length - key_tile * kKeyTile, chunks);
  };
  const auto copy_values = [&](uint32_t to, const std::byte* page, int key_tile) {
    copy_rows<C, kKeyTile>(to + C::kTileBytes, page + values_offset, row_bytes,
                           length - key_tile * kKeyTile, chunks);
  };
  const auto page_of = [&](uint32_t index) {
    return head_base + int64_t{index} * pages.page_bytes;
  };

  WarpRows<T, C> rows;
  if (keys.first < keys.end) {
    const std::byte* page = page_of(table[keys.first]);
    // Always one ahead of what is copied, so that nothing waits for it.
    uint32_t next_index = keys.first + 1 < keys.end ? table[keys.first + 1] : 0;
    copy_rows<C, C::kRowTile>(
        queries,
        static_cast<const std::byte*>(args.q) +
            (tile_row * args.q_row_stride + int64_t{head} * pages.head_dim) * 2,
        args.q_row_stride * 2, tile_count, chunks);
    copy_keys(first_stage, page, keys.first);
    if (stages == 2) copy_values(first_stage, page, keys.first);
    commit_copies();

    const uint32_t own_queries =
        queries + (warp * C::kWarpRows + lane % 16) * C::kRowBytes + lane / 16 * 16;
    const uint32_t key_lane = (lane % 8 + lane / 16 * 8) * C::kRowBytes + lane / 8 % 2 * 16;
    const uint32_t value_lane = C::kTileBytes + lane % 16 * C::kRowBytes + lane / 16 * 16;
    const float scale_log2 = args.scale * kLog2E;
    uint32_t stage = first_stage;
    for (int key_tile = keys.first; key_tile < keys.end; ++key_tile) {
      const bool has_next = key_tile + 1 < keys.end;
      const std::byte* next_page = page_of(next_index);
      const uint32_t next_stage = stages == 2 ? 2 * first_stage + 2 * C::kTileBytes - stage : stage;
      wait_for_copies();
      __syncthreads();
      if (stages == 2) {
        if (has_next) {
          copy_keys(next_stage, next_page, key_tile + 1);
          copy_values(next_stage, next_page, key_tile + 1);
        }
      } else {
        copy_values(stage, page, key_tile);
      }
      commit_copies();
      if (key_tile + 2 < keys.end) next_index = table[key_tile + 2];

      const bool is_own = key_tile >= own.first && key_tile < own.end;
      Scores<C> scores;
      if (is_own) {
        score_keys<T, C>(scores, own_queries, stage + key_lane);
        const int key = key_tile * kKeyTile;
        if (key + kKeyTile - 1 > position ||
            (args.window > 0 && key <= position + C::kWarpRows - 1 - args.window))
          mask_keys<C>(scores, position, key, args.window);
        weigh<T, C>(scores, rows, scale_log2);
      }
      if (stages == 1) {
        wait_for_copies();
        __syncthreads();
        if (has_next) copy_keys(stage, next_page, key_tile + 1);
        commit_copies();
      }
      if (is_own) add_values<T, C>(scores, rows, stage + value_lane);
      stage = next_stage;
      page = next_page;
    }
  }
  if (count > 0)
    write_rows<T, C>(args, rows, shared + warp * C::kWarpRows * C::kRowBytes,
                     tile_row + warp * C::kWarpRows, head, count);
}

// --- host

// Of one block and of one multiprocessor, by the CUDA programming guide's table of features.
struct SharedLimits {
  int block_bytes, multiprocessor_bytes;
};
SharedLimits shared_limits(int compute_capability) {
  if (compute_capability >= 90 && compute_capability < 120) return {227 * 1024, 228 * 1024};
  if (compute_capability == 80 || compute_capability == 87) return {163 * 1024, 164 * 1024};
  return {99 * 1024, 100 * 1024};
}

// Calls use(Cut{}) with the cut for such heads on such a device.
template <class Use>
auto with_cut(int head_dim, int compute_capability, Use&& use) {
  if (head_dim <= 64) return use(Cut64{});
  if (head_dim <= 80) return use(Cut80{});
  if (head_dim <= 96) return use(Cut96{});
  if (head_dim <= 128) return use(Cut128{});
  if (shared_limits(compute_capability).block_bytes >= Cut256::kQueryBytes + 2 * Cut256::kTileBytes)
    return use(Cut256{});
  return use(Cut256Small{});
}

bool supports(const AttentionDesc& desc, int compute_capability) {
  return compute_capability >= 80 && desc.dtype != DType::kF32 && desc.head_dim > 0 &&
         desc.head_dim % 16 == 0 && desc.head_dim <= 256;
}

// Row tiles of spans of `rows` rows together: every span but its last tile full.
int64_t most_tiles(int64_t tile_rows, int64_t spans, int64_t rows) {
  return std::min(rows, (rows + spans * (tile_rows - 1)) / tile_rows);
}
int64_t tile_rows_of(int head_dim, int compute_capability) {
  return with_cut(head_dim, compute_capability, [](auto cut) -> int64_t { return cut.kRowTile; });
}

size_t workspace_bytes(const AttentionDesc& desc, const cuda::Context& context, int max_spans,
                       int64_t max_rows) {
  const int64_t rows = tile_rows_of(desc.head_dim, context.compute_capability);
  return 16 + static_cast<size_t>(most_tiles(rows, max_spans, max_rows)) * sizeof(RowTile);
}

void build(const cuda::Context& context, const CudaAttentionArgs& args) {
  const int64_t rows = tile_rows_of(args.pages.head_dim, context.compute_capability);
  launch(context, list_row_tiles, 1, kListThreads, 0, args, static_cast<int>(rows),
         static_cast<int>(most_tiles(rows, args.span_count, args.max_rows)));
}

template <class T, class C>
void run_cut(const cuda::Context& context, const CudaAttentionArgs& args) {
  // Two stages where they leave a multiprocessor room for as many blocks as its registers do; of
  // every block it takes 1 KB for itself.
  const SharedLimits limits = shared_limits(context.compute_capability);
  const int room = std::min(limits.block_bytes,
                            limits.multiprocessor_bytes / C::kBlocksPerMultiprocessor - 1024);
  const int stages = C::kQueryBytes + 4 * C::kTileBytes <= room ? 2 : 1;
  const int bytes = C::kQueryBytes + stages * 2 * C::kTileBytes;
  KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(prefill_attention<T, C>),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const int64_t tiles = most_tiles(C::kRowTile, args.span_count, args.max_rows);
  const dim3 grid(static_cast<unsigned>(tiles * (args.q_heads / args.pages.kv_heads)),
                  static_cast<unsigned>(args.pages.kv_heads));
  if (grid.x == 0) return;
  launch(context, prefill_attention<T, C>, grid, C::kThreads, static_cast<size_t>(bytes), args,
         stages);
}

void run(const cuda::Context& context, const CudaAttentionArgs& args) {
  with_cut(args.pages.head_dim, context.compute_capability, [&](auto cut) {
    if (args.pages.dtype == DType::kBF16)
      run_cut<bfloat16, decltype(cut)>(context, args);
    else
      run_cut<float16, decltype(cut)>(context, args);
  });
}

uint64_t pairs(const AttentionDesc& desc, int64_t query_offset, int64_t rows, int64_t window) {
  const int64_t warp_rows = desc.head_dim <= 128 ? Cut128::kWarpRows : Cut256::kWarpRows;
  int64_t sum = 0;
  for (int64_t row = 0; row < rows; row += warp_rows) {
    const int64_t count = std::min(warp_rows, rows - row), from = query_offset + row;
    const KeyTiles tiles = key_tiles(from, from + count - 1, window);
    sum += count * (tiles.end - tiles.first) * kKeyTile;
  }
  return static_cast<uint64_t>(sum);
}

}  // namespace

const PrefillImplementation kPrefillAttentionSm80 = {.name = "prefill_attention_sm80",
                                                     .priority = 80,
                                                     .supports = supports,
                                                     .workspace_bytes = workspace_bytes,
                                                     .build = build,
                                                     .run = run,
                                                     .pairs = pairs};

}  // namespace kvasir::kernels

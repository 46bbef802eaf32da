// Scores of groups are a product of matrices: a row of the left one is a group's queries from the
// last to the first, a row of the right one a group's keys, each of stride * head_dim elements. A
// block multiplies 128 query groups, of the row tiles and heads of one KV head, by 128 key groups,
// and leaves of each query group and block of keys the largest score and the sum of weights. A
// second kernel merges these over the blocks.

#include <algorithm>

#include "kernels/antidiagonal/antidiagonal_cuda.h"
#include "kernels/cuda_device.cuh"
#include "kernels/mma_sm80.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kMassBlock = 128;  // queries of a row tile, keys of a block
constexpr int kPage = static_cast<int>(kPageTokens);
constexpr int kGroups = 128;  // of queries and of keys, that a block multiplies
constexpr int kWarpRows = 32, kWarpColumns = 64;
constexpr int kThreads = 256;
constexpr int kChunk = 64;  // elements that are multiplied at once
constexpr int kStages = 3;
constexpr int kRowBytes = kChunk * 2 + 16;
constexpr int kSideBytes = kGroups * kRowBytes;
constexpr int kSharedBytes = kStages * 2 * kSideBytes;
constexpr float kLog2E = 1.44269504088896340736f;

struct Params {
  CudaAntidiagonalArgs args;
  int group;         // query heads of a KV head
  int rows;          // query groups of a KV head, in whole blocks of 128
  int most_blocks;   // of keys
  float scale_log2;  // of a group's sum
  float2* states;    // [kv_heads][rows][most_blocks]: largest score, sum of weights
};

// A query group of a KV head: they come row tile by row tile, in these head by head.
struct QueryGroup {
  int head_of_group, first_row;  // in the span
  int last_key_group;            // that it sees; -1: there is no such query group

  template <int kStride>
  static __device__ __forceinline__ QueryGroup at(const Params& params,
                                                  const CudaAttentionSpan& span, int row) {
    constexpr int kOfTile = kMassBlock / kStride;
    const int pair = row / kOfTile, tile = pair / params.group;
    QueryGroup found;
    found.head_of_group = pair - tile * params.group;
    found.first_row =
        (params.args.first_tile + tile) * kMassBlock + (row - pair * kOfTile) * kStride;
    const bool exists = tile < params.args.tiles && found.first_row < span.rows;
    found.last_key_group = exists ? (span.query_offset + found.first_row) / kStride : -1;
    return found;
  }
};

// What a thread copies of a side: 16 bytes of every 32nd group.
constexpr int kCopies = kGroups / 32;
struct Source {
  const std::byte* base;  // of the group's first token (the last for queries) and this column
  int tokens;             // of the group that exist from there on, in the order of copying
};

template <class T, int kStride>
__global__ void __launch_bounds__(kThreads, 2) score_groups(Params params) {
  extern __shared__ __align__(128) std::byte shared[];
  wait_for_inputs();
  let_next_begin();
  const CudaAntidiagonalArgs& args = params.args;
  const CudaAttentionSpan span = *args.span;
  const int kv_head = static_cast<int>(blockIdx.z);
  const int first_row = static_cast<int>(blockIdx.y) * kGroups;
  const int first_key_group = static_cast<int>(blockIdx.x) * kGroups;
  const int thread = static_cast<int>(threadIdx.x);
  const QueryGroup own_group =
      QueryGroup::at<kStride>(params, span, first_row + min(thread, kGroups - 1));
  if (__syncthreads_or(own_group.last_key_group >= first_key_group) == 0) return;

  const int head_dim = args.pages.head_dim, length = span.query_offset + span.rows;
  const int row_of_copy = thread / 8, column = thread % 8 * 8;
  Source queries[kCopies], keys[kCopies];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int at = row_of_copy + i * 32;
    const QueryGroup group = QueryGroup::at<kStride>(params, span, first_row + at);
    const bool exists = group.last_key_group >= 0;
    queries[i].base =
        static_cast<const std::byte*>(args.q) +
        ((int64_t{span.first_row} + (exists ? group.first_row : 0)) * args.q_row_stride +
         int64_t{kv_head * params.group + group.head_of_group} * head_dim + column) *
            2;
    queries[i].tokens = exists ? span.rows - group.first_row : 0;
    const int key = (first_key_group + at) * kStride;
    keys[i].base = args.pages.base;
    keys[i].tokens = length - key;
    if (key < length)
      keys[i].base +=
          int64_t{args.page_tables[span.first_page + key / kPage]} * args.pages.page_bytes +
          ((int64_t{kv_head} * 2 * kPage + key % kPage) * head_dim + column) * 2;
  }
  const int parts = (head_dim + kChunk - 1) / kChunk;  // of a token
  const int chunks = kStride * parts;
  const uint32_t ring = shared_address(shared);
  int next_chunk = 0, next_token = 0, next_part = 0;
  const auto copy_next = [&] {
    if (next_chunk < chunks) {
      const uint32_t to =
          ring + next_chunk % kStages * 2 * kSideBytes + row_of_copy * kRowBytes + thread % 8 * 16;
      const bool has_column = next_part * kChunk + column < head_dim;
      // The last query of a group meets its first key.
      const int query = kStride - 1 - next_token;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const bool has_query = has_column && query < queries[i].tokens;
        const bool has_key = has_column && next_token < keys[i].tokens;
        copy_async_or_zero(
            to + i * 32 * kRowBytes,
            has_query ? queries[i].base + (query * args.q_row_stride + next_part * kChunk) * 2
                      : queries[i].base,
            has_query);
        copy_async_or_zero(to + kSideBytes + i * 32 * kRowBytes,
                           has_key ? keys[i].base + (next_token * head_dim + next_part * kChunk) * 2
                                   : args.pages.base,
                           has_key);
      }
      ++next_chunk;
      if (++next_part == parts) {
        next_part = 0;
        ++next_token;
      }
    }
    commit_copies();
  };
#pragma unroll 1
  for (int i = 0; i < kStages - 1; ++i) copy_next();

  const int lane = thread % 32, warp = thread / 32;
  const int warp_row = warp / 2 * kWarpRows, warp_column = warp % 2 * kWarpColumns;
  const uint32_t query_lane = (warp_row + lane % 16) * kRowBytes + lane / 16 * 16;
  const uint32_t key_lane =
      kSideBytes + (warp_column + lane % 8 + lane / 16 * 8) * kRowBytes + lane / 8 % 2 * 16;
  float sums[2][kWarpColumns / 8][4] = {};
#pragma unroll 1
  for (int chunk = 0; chunk < chunks; ++chunk) {
    wait_for_copies<kStages - 2>();
    __syncthreads();
    copy_next();
    const uint32_t stage = ring + chunk % kStages * 2 * kSideBytes;
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
      uint32_t q[2][4];
#pragma unroll
      for (int block = 0; block < 2; ++block)
        load_matrices(q[block], stage + query_lane + block * 16 * kRowBytes + step * 32);
#pragma unroll
      for (int pair = 0; pair < kWarpColumns / 16; ++pair) {
        uint32_t k[4];
        load_matrices(k, stage + key_lane + pair * 16 * kRowBytes + step * 32);
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          multiply_add<T>(sums[block][2 * pair], q[block], k[0], k[1]);
          multiply_add<T>(sums[block][2 * pair + 1], q[block], k[2], k[3]);
        }
      }
    }
  }

  // Of each row and block of keys what the merge needs; four lanes share a row.
  constexpr int kTilesOfBlock = kMassBlock / kStride / 8;  // 8 key groups each
  const int first_block = (first_key_group + warp_column) * kStride / kMassBlock;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = first_row + warp_row + i / 2 * 16 + i % 2 * 8 + lane / 4;
    const int last = QueryGroup::at<kStride>(params, span, row).last_key_group - first_key_group -
                     warp_column - lane % 4 * 2;
    float2* out = params.states + (int64_t{kv_head} * params.rows + row) * params.most_blocks;
#pragma unroll
    for (int block = 0; block < kWarpColumns / 8 / kTilesOfBlock; ++block) {
      float scores[kTilesOfBlock * 2], maximum = -INFINITY;
#pragma unroll
      for (int j = 0; j < kTilesOfBlock * 2; ++j) {
        const int tile = block * kTilesOfBlock + j / 2;
        scores[j] = tile * 8 + j % 2 <= last ? sums[i / 2][tile][i % 2 * 2 + j % 2] : -INFINITY;
        maximum = fmaxf(maximum, scores[j]);
      }
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 1));
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
      const float shift = (maximum == -INFINITY ? 0 : maximum) * params.scale_log2;
      float sum = 0;
#pragma unroll
      for (float score : scores) sum += fast_exp2(fmaf(score, params.scale_log2, -shift));
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      if (lane % 4 == 0 && first_block + block < params.most_blocks)
        out[first_block + block] = make_float2(maximum * params.scale_log2, sum);
    }
  }
}

// --- The masses of a row tile of a head.

constexpr int kMergeThreads = 256;
constexpr int kMostGroups = 16;  // of a row tile

template <int kStride>
__global__ void __launch_bounds__(kMergeThreads) merge_groups(Params params) {
  __shared__ float logarithms[kMostGroups];
  __shared__ int last_blocks[kMostGroups];
  wait_for_inputs();
  let_next_begin();
  constexpr int kOfTile = kMassBlock / kStride;
  const CudaAntidiagonalArgs& args = params.args;
  const CudaAttentionSpan span = *args.span;
  const int tile = static_cast<int>(blockIdx.x) / params.group;
  const int kv_head = static_cast<int>(blockIdx.y);
  if ((args.first_tile + tile) * kMassBlock >= span.rows) return;
  const int head = kv_head * params.group + static_cast<int>(blockIdx.x) % params.group;
  const int first_row = static_cast<int>(blockIdx.x) * kOfTile;
  const float2* states =
      params.states + (int64_t{kv_head} * params.rows + first_row) * params.most_blocks;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int i = warp; i < kOfTile; i += kMergeThreads / 32) {
    const QueryGroup group = QueryGroup::at<kStride>(params, span, first_row + i);
    const int blocks =
        group.last_key_group < 0 ? 0 : group.last_key_group * kStride / kMassBlock + 1;
    const float2* own = states + int64_t{i} * params.most_blocks;
    float maximum = -INFINITY, sum = 0;
    for (int block = lane; block < blocks; block += 32) maximum = fmaxf(maximum, own[block].x);
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
    for (int block = lane; block < blocks; block += 32)
      if (own[block].y > 0) sum += own[block].y * exp2f(own[block].x - maximum);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane == 0) {
      logarithms[i] = maximum + log2f(sum);
      last_blocks[i] = blocks - 1;
    }
  }
  __syncthreads();
  const int blocks = (span.query_offset + span.rows + kMassBlock - 1) / kMassBlock;
  float* out = args.masses + (int64_t{head} * args.tiles + tile) * args.mass_row_stride;
  for (int block = static_cast<int>(threadIdx.x); block < blocks; block += kMergeThreads) {
    float mass = 0;
    for (int i = 0; i < kOfTile; ++i) {
      if (block > last_blocks[i]) continue;
      const float2 state = states[int64_t{i} * params.most_blocks + block];
      if (state.y > 0) mass += state.y * exp2f(state.x - logarithms[i]);
    }
    out[block] = mass;
  }
}

// --- host

int rows_of(int group, int stride, int tiles) {
  const int rows = group * tiles * (kMassBlock / stride);
  return (rows + kGroups - 1) / kGroups * kGroups;
}
int blocks_of(int64_t length) { return static_cast<int>((length + kMassBlock - 1) / kMassBlock); }

template <class T, int kStride>
void run_stride(const cuda::Context& context, const Params& params) {
  const CudaAntidiagonalArgs& args = params.args;
  KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(score_groups<T, kStride>),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  const auto kv_heads = static_cast<unsigned>(args.pages.kv_heads);
  constexpr int64_t kKeys = int64_t{kGroups} * kStride;
  launch(context, score_groups<T, kStride>,
         dim3(static_cast<unsigned>((args.max_length + kKeys - 1) / kKeys),
              static_cast<unsigned>(params.rows / kGroups), kv_heads),
         kThreads, kSharedBytes, params);
  launch(context, merge_groups<kStride>,
         dim3(static_cast<unsigned>(args.tiles * params.group), kv_heads), kMergeThreads, 0,
         params);
}

template <class T>
void run_type(const cuda::Context& context, const Params& params) {
  if (params.args.stride == 8)
    run_stride<T, 8>(context, params);
  else
    run_stride<T, 16>(context, params);
}

}  // namespace

size_t antidiagonal_workspace_bytes(int q_heads, int kv_heads, int stride, int tiles,
                                    int64_t max_length) {
  return static_cast<size_t>(kv_heads) *
         static_cast<size_t>(rows_of(q_heads / kv_heads, stride, tiles)) *
         static_cast<size_t>(blocks_of(max_length)) * sizeof(float2);
}

void run_antidiagonal(const cuda::Context& context, const CudaAntidiagonalArgs& args) {
  if (args.tiles == 0 || args.max_length == 0) return;
  const int group = args.q_heads / args.pages.kv_heads;
  const Params params{.args = args,
                      .group = group,
                      .rows = rows_of(group, args.stride, args.tiles),
                      .most_blocks = blocks_of(args.max_length),
                      .scale_log2 = args.scale / static_cast<float>(args.stride) * kLog2E,
                      .states = reinterpret_cast<float2*>(args.workspace)};
  if (args.pages.dtype == DType::kBF16)
    run_type<bfloat16>(context, params);
  else
    run_type<float16>(context, params);
}

}  // namespace kvasir::kernels

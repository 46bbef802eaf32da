#include <algorithm>

#include "kernels/attention_planner/block_sparse_cuda.h"
#include "kernels/attention_planner/mean_products.cuh"
#include "kernels/attention_planner/radix_select.cuh"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = static_cast<int>(kPageTokens);
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMostTiles = 4;  // row tiles that a block takes, as far as their products fit
constexpr int kProductBytes = 80 << 10;

struct Params {
  CudaBlockSparseArgs args;
  int group;
  int most_blocks, most_tiles;  // of any span
  float* block_means;           // [spans, kv_heads][head_dim / 4][most_blocks][4]
  float* tile_means;            // [spans, q_heads][most_tiles][head_dim]
};

__device__ __forceinline__ bool is_block_sparse(const Params& params, int head) {
  return params.args.heads[head].kind == HeadKind::kBlockSparse;
}

// --- Means, an element of the head a thread.

template <class T>
__global__ void mean_keys(Params params) {
  wait_for_inputs();
  let_next_begin();
  const CudaBlockSparseArgs& args = params.args;
  const int block = static_cast<int>(blockIdx.x), kv_head = static_cast<int>(blockIdx.y);
  const CudaAttentionSpan span = args.spans[blockIdx.z];
  const int count = min(kBlockKeys, span.query_offset + span.rows - block * kBlockKeys);
  if (span.rows == 0 || count <= 0) return;
  bool is_wanted = false;
  for (int i = 0; i < params.group; ++i)
    is_wanted |= is_block_sparse(params, kv_head * params.group + i);
  if (!is_wanted) return;
  const int head_dim = args.pages.head_dim, element = static_cast<int>(threadIdx.x);
  const auto* keys = reinterpret_cast<const T*>(args.pages.base +
                                                int64_t{args.page_tables[span.first_page + block]} *
                                                    args.pages.page_bytes) +
                     int64_t{kv_head} * 2 * kBlockKeys * head_dim + element;
  float sum = 0;
#pragma unroll 16
  for (int i = 0; i < count; ++i) sum += to_float(keys[i * head_dim]);
  const int64_t place = int64_t{blockIdx.z} * args.pages.kv_heads + kv_head;
  params.block_means[((place * (head_dim / 4) + element / 4) * params.most_blocks + block) * 4 +
                     element % 4] = sum / static_cast<float>(count);
}

template <class T>
__global__ void mean_queries(Params params) {
  wait_for_inputs();
  let_next_begin();
  const CudaBlockSparseArgs& args = params.args;
  const int tile = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const CudaAttentionSpan span = args.spans[blockIdx.z];
  if (!is_block_sparse(params, head)) return;
  const int element = static_cast<int>(threadIdx.x), head_dim = args.pages.head_dim;
  const int64_t place = int64_t{blockIdx.z} * args.q_heads + head;
  if (tile == 0 && element == 0) {
    // The head's program; how many pairs it holds is added up tile by tile.
    const int length = span.query_offset + span.rows, words = (length + 2047) / 2048;
    const auto first = static_cast<int32_t>(place * args.plan.head_segments);
    args.plan.programs[place] = {.first = first, .count = span.rows > 0 ? 1 : 0};
    args.plan.segments[first] = {.kind = SegmentKind::kBlocks,
                                 .first = static_cast<int32_t>(place * args.plan.head_words),
                                 .count = words};
    args.plan.reports[place] = {};
  }
  const int count = min(args.plan.row_tile, span.rows - tile * args.plan.row_tile);
  if (count <= 0) return;
  const T* q = static_cast<const T*>(args.q) +
               (int64_t{span.first_row} + tile * args.plan.row_tile) * args.q_row_stride +
               int64_t{head} * head_dim + element;
  float sum = 0;
#pragma unroll 16
  for (int i = 0; i < count; ++i) sum += to_float(q[i * args.q_row_stride]);
  params.tile_means[(place * params.most_tiles + tile) * head_dim + element] =
      sum / static_cast<float>(count);
}

// --- Products and what is taken of them.

using SelectShared = radix::Shared<OneBlock, kThreads, false>;

// The bits of what `threshold` takes, all words of the row.
__device__ __forceinline__ void write_bits(const float* products, int blocks,
                                           radix::Threshold threshold, int words, uint32_t* bits,
                                           uint32_t (&equals)[kWarps]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int own_words = (words + kWarps - 1) / kWarps;
  const int first = warp * own_words, last = min(words, first + own_words);
  const auto key = [&](int word) {
    const int block = word * 32 + lane;
    return block < blocks ? radix::key_of(products[block]) : radix::kNone;
  };
  uint32_t equal = 0;
  for (int word = first; word < last; ++word)
    equal += __popc(__ballot_sync(~0u, key(word) == threshold.key));
  if (lane == 0) equals[warp] = equal;
  __syncthreads();
  uint32_t before = 0;
  for (int i = 0; i < warp; ++i) before += equals[i];
  for (int word = first; word < last; ++word) {
    const uint32_t own = key(word), ties = __ballot_sync(~0u, own == threshold.key);
    const uint32_t rank = before + __popc(ties & ((1u << lane) - 1));
    const uint32_t taken =
        __ballot_sync(~0u, own > threshold.key || (own == threshold.key && rank < threshold.equal));
    if (lane == 0) bits[word] = taken;
    before += __popc(ties);
  }
  __syncthreads();
}

template <int kTiles>
__global__ void __launch_bounds__(kThreads) select_blocks(Params params) {
  extern __shared__ __align__(16) float products[];  // [kTiles][most_blocks]
  __shared__ float tile_means[kTiles][kMaxMeanDim];
  __shared__ SelectShared select;
  __shared__ uint32_t equals[kWarps];
  wait_for_inputs();
  let_next_begin();
  const CudaBlockSparseArgs& args = params.args;
  const int head = static_cast<int>(blockIdx.y), span_index = static_cast<int>(blockIdx.z);
  if (!is_block_sparse(params, head)) return;
  const CudaAttentionSpan span = args.spans[span_index];
  const int row_tile = args.plan.row_tile, first_tile = static_cast<int>(blockIdx.x) * kTiles;
  const int tiles = min(kTiles, (span.rows + row_tile - 1) / row_tile - first_tile);
  if (tiles <= 0) return;
  const int64_t place = int64_t{span_index} * args.q_heads + head;
  const int head_dim = args.pages.head_dim, length = span.query_offset + span.rows;
  const int words = (length + 2047) / 2048;
  for (int i = static_cast<int>(threadIdx.x); i < kTiles * head_dim; i += kThreads) {
    const int tile = i / head_dim;
    tile_means[tile][i % head_dim] =
        tile < tiles ? params.tile_means[(place * params.most_tiles + first_tile) * head_dim + i]
                     : 0;
  }
  __syncthreads();
  const auto end_of = [&](int tile) {
    return min(length, span.query_offset + (first_tile + tile + 1) * row_tile);
  };
  const auto* block_means = reinterpret_cast<const float4*>(
      params.block_means + (int64_t{span_index} * args.pages.kv_heads + head / params.group) *
                               head_dim * params.most_blocks);
  multiply_means<kTiles, kThreads>(head_dim, (end_of(tiles - 1) - 1) / kBlockKeys + 1, block_means,
                                   params.most_blocks, tile_means, products);
  __syncthreads();
  int64_t pairs = 0, dense_pairs = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    float* own = products + tile * params.most_blocks;
    const int position = span.query_offset + (first_tile + tile) * row_tile, end = end_of(tile);
    const int blocks = (end - 1) / kBlockKeys + 1;
    if (threadIdx.x == 0) {
      if (args.force_diagonal)
        for (int block = position / kBlockKeys; block < blocks; ++block) own[block] = INFINITY;
      if (args.force_sink) own[0] = INFINITY;
    }
    __syncthreads();
    const radix::Threshold threshold =
        args.blocks >= blocks
            ? radix::Threshold{radix::kNone, 0}
            : radix::find_threshold<false>(
                  select, static_cast<uint64_t>(args.blocks), [&](auto&& use) {
                    for (int first = 0; first < blocks; first += kThreads) {
                      const int block = first + static_cast<int>(threadIdx.x);
                      use(block < blocks ? radix::key_of(own[block]) : radix::kNone);
                    }
                  });
    uint32_t* bits =
        args.plan.block_bits + place * args.plan.head_words + int64_t{first_tile + tile} * words;
    write_bits(own, blocks, threshold, words, bits, equals);
    if (threadIdx.x == 0) {
      const int rows = end - position;
      // The last block may hold keys that the tile does not see.
      const bool has_last = bits[(blocks - 1) / 32] >> (blocks - 1) % 32 & 1;
      const int keys =
          min(args.blocks, blocks) * kBlockKeys - (has_last ? blocks * kBlockKeys - end : 0);
      pairs += int64_t{rows} * keys;
      dense_pairs += int64_t{rows} * end;
    }
  }
  if (threadIdx.x != 0) return;
  HeadReport& report = args.plan.reports[place];
  atomicAdd(reinterpret_cast<unsigned long long*>(&report.pairs),
            static_cast<unsigned long long>(pairs));
  atomicAdd(reinterpret_cast<unsigned long long*>(&report.dense_pairs),
            static_cast<unsigned long long>(dense_pairs));
}

// --- host

struct Layout {
  Layout(int q_heads, int kv_heads, int head_dim, int span_count, int64_t max_rows,
         int64_t max_length, int row_tile)
      : most_blocks(static_cast<int>((max_length + kBlockKeys - 1) / kBlockKeys)),
        most_tiles(static_cast<int>((max_rows + row_tile - 1) / row_tile)) {
    const auto spans = static_cast<size_t>(span_count) * static_cast<size_t>(head_dim);
    const size_t blocks = spans * static_cast<size_t>(kv_heads) * static_cast<size_t>(most_blocks);
    const size_t tiles = spans * static_cast<size_t>(q_heads) * static_cast<size_t>(most_tiles);
    tile_means = blocks * sizeof(float);
    bytes = tile_means + tiles * sizeof(float);
  }
  int most_blocks, most_tiles;
  size_t tile_means, bytes;
};

template <class T>
void run_type(const cuda::Context& context, const Params& params) {
  const CudaBlockSparseArgs& args = params.args;
  const auto spans = static_cast<unsigned>(args.span_count);
  const auto q_heads = static_cast<unsigned>(args.q_heads);
  const auto threads = static_cast<unsigned>(args.pages.head_dim);
  launch(context, mean_keys<T>,
         dim3(static_cast<unsigned>(params.most_blocks), static_cast<unsigned>(args.pages.kv_heads),
              spans),
         threads, 0, params);
  launch(context, mean_queries<T>, dim3(static_cast<unsigned>(params.most_tiles), q_heads, spans),
         threads, 0, params);
}

template <int kTiles>
void run_select(const cuda::Context& context, const Params& params) {
  const int bytes = kTiles * params.most_blocks * static_cast<int>(sizeof(float));
  KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(select_blocks<kTiles>),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  launch(context, select_blocks<kTiles>,
         dim3(static_cast<unsigned>((params.most_tiles + kTiles - 1) / kTiles),
              static_cast<unsigned>(params.args.q_heads),
              static_cast<unsigned>(params.args.span_count)),
         kThreads, static_cast<size_t>(bytes), params);
}

}  // namespace

int64_t block_sparse_words(int64_t max_rows, int64_t max_length, int row_tile) {
  return (max_rows + row_tile - 1) / row_tile * ((max_length + 2047) / 2048);
}

size_t block_sparse_workspace_bytes(int q_heads, int kv_heads, int head_dim, int span_count,
                                    int64_t max_rows, int64_t max_length, int row_tile) {
  return Layout(q_heads, kv_heads, head_dim, span_count, max_rows, max_length, row_tile).bytes;
}

void run_block_sparse(const cuda::Context& context, const CudaBlockSparseArgs& args) {
  if (args.span_count == 0 || args.max_rows == 0) return;
  const Layout layout(args.q_heads, args.pages.kv_heads, args.pages.head_dim, args.span_count,
                      args.max_rows, args.max_length, args.plan.row_tile);
  const Params params{.args = args,
                      .group = args.q_heads / args.pages.kv_heads,
                      .most_blocks = layout.most_blocks,
                      .most_tiles = layout.most_tiles,
                      .block_means = reinterpret_cast<float*>(args.workspace),
                      .tile_means = reinterpret_cast<float*>(args.workspace + layout.tile_means)};
  if (args.pages.dtype == DType::kBF16)
    run_type<bfloat16>(context, params);
  else
    run_type<float16>(context, params);
  const int row_bytes = layout.most_blocks * static_cast<int>(sizeof(float));
  if (kMostTiles * row_bytes <= kProductBytes)
    run_select<kMostTiles>(context, params);
  else if (2 * row_bytes <= kProductBytes)
    run_select<2>(context, params);
  else
    run_select<1>(context, params);
}

}  // namespace kvasir::kernels

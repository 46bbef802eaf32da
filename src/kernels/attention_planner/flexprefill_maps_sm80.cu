// Maps of mean queries against mean keys, what query-aware heads take of them, and the bits of the
// plan for all heads.

#include <algorithm>
#include <cmath>

#include "kernels/attention_planner/flexprefill_span.cuh"
#include "kernels/attention_planner/mean_products.cuh"
#include "kernels/attention_planner/radix_select.cuh"

namespace kvasir::kernels::flexprefill {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMostTiles = 4;  // row tiles that a block takes, as far as their products fit
constexpr int kProductBytes = 80 << 10;

// Heads from `first_head` on, each with a map of its own.
struct Maps {
  int first_head;
  float* values;  // [heads][most_tiles][most_blocks]; what a tile does not see is not written
};

__device__ __forceinline__ float* row_of(const Work& work, const Maps& maps, int index, int tile) {
  return maps.values + (int64_t{index} * work.most_tiles + tile) * work.most_blocks;
}

template <int kTiles>
__global__ void __launch_bounds__(kThreads) write_maps(Work work, Maps maps) {
  extern __shared__ __align__(16) float products[];  // [kTiles][most_blocks]
  __shared__ float means[kTiles][kMaxMeanDim];
  __shared__ double warp_values[kWarps];
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const int index = static_cast<int>(blockIdx.y), head = maps.first_head + index;
  const int first_tile = static_cast<int>(blockIdx.x) * kTiles;
  const int tiles = min(kTiles, span.tiles - first_tile), head_dim = work.args.bounds.head_dim;
  if (span.empty() || tiles <= 0 || work.query_aware[head] == 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < kTiles * head_dim; i += kThreads) {
    const int tile = i / head_dim;
    means[tile][i % head_dim] =
        tile < tiles ? query_mean(work, head, first_tile + tile)[i % head_dim] : 0;
  }
  __syncthreads();
  multiply_means<kTiles, kThreads>(head_dim, span.visible(first_tile + tiles - 1),
                                   key_means(work, head), work.most_blocks, means, products);
  __syncthreads();
  for (int tile = 0; tile < tiles; ++tile) {
    float* const own = products + tile * work.most_blocks;
    const int visible = span.visible(first_tile + tile);
    softmax<kThreads>(own, visible, work.args.scale, warp_values);
    float* const row = row_of(work, maps, index, first_tile + tile);
    for (int i = static_cast<int>(threadIdx.x); i < visible; i += kThreads) row[i] = own[i];
  }
}

// --- Which entries hold the share of the whole map.

constexpr int kSelectThreads = 1024;
constexpr int kBatch = 4;  // reads under way at once

template <class Group>
struct SelectShared {
  radix::Shared<Group, kSelectThreads, true> mass;
  uint64_t warp_sums[kSelectThreads / 32];
  uint64_t of_blocks[Group::kBlocks];
};

template <class Group>
__device__ __forceinline__ void find_threshold(const Work& work, const Maps& maps) {
  __shared__ SelectShared<Group> shared;
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const int index = static_cast<int>(blockIdx.x) / Group::kBlocks, head = maps.first_head + index;
  if (span.empty() || work.query_aware[head] == 0) return;
  radix::Threshold& threshold = work.thresholds[head];
  const bool is_writer = threadIdx.x == 0 && Group::rank() == 0;
  if (work.args.gamma >= 1) {
    if (is_writer) threshold = {radix::kNone, 0};
    return;
  }
  // Whole warps call use(key) for every entry of the map, kNone where none is seen.
  const auto for_each = [&](auto&& use) {
    constexpr int kStride = Group::kBlocks * kSelectThreads;
    const int64_t entries = int64_t{span.tiles} * span.blocks;
    const int own = Group::rank() * kSelectThreads + static_cast<int>(threadIdx.x);
#pragma unroll 1
    for (int64_t first = 0; first < entries; first += int64_t{kStride} * kBatch) {
      uint32_t keys[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int64_t at = first + i * kStride + own;
        keys[i] = radix::kNone;
        if (at >= entries) continue;
        const int tile = static_cast<int>(at / span.blocks);
        const int block = static_cast<int>(at - int64_t{tile} * span.blocks);
        if (block < span.visible(tile))
          keys[i] = radix::key_of(row_of(work, maps, index, tile)[block]);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) use(keys[i]);
    }
  };
  uint64_t all = 0;
  for_each([&all](uint32_t key) {
    if (key != radix::kNone) all += radix::mass_of(radix::score_of(key));
  });
  all = radix::block_sum<kSelectThreads>(all, shared.warp_sums);
  if (threadIdx.x < Group::kBlocks)
    *Group::at(&shared.of_blocks[Group::rank()], static_cast<int>(threadIdx.x)) = all;
  Group::sync();
  all = 0;
  for (int block = 0; block < Group::kBlocks; ++block) all += shared.of_blocks[block];
  const auto wanted =
      min(all, static_cast<uint64_t>(ceil(work.args.gamma * static_cast<double>(all))));
  radix::Threshold found{~0u, 0};
  if (wanted > 0) found = radix::find_threshold<true>(shared.mass, wanted, for_each);
  if (is_writer) threshold = found;
}

__global__ void __launch_bounds__(kSelectThreads) find_by_block(Work work, Maps maps) {
  find_threshold<OneBlock>(work, maps);
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__global__ void __launch_bounds__(kSelectThreads) __cluster_dims__(Cluster::kBlocks, 1, 1)
    find_by_cluster(Work work, Maps maps) {
  find_threshold<Cluster>(work, maps);
}
#else
__global__ void find_by_cluster(Work, Maps) {}
#endif

// Entries of a row tile that equal the threshold: of all of them the first ones are taken.
__global__ void __launch_bounds__(kThreads) count_equals(Work work, Maps maps) {
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const int tile = static_cast<int>(blockIdx.x), index = static_cast<int>(blockIdx.y);
  const int head = maps.first_head + index;
  if (tile >= span.tiles || work.query_aware[head] == 0) return;
  const uint32_t key = work.thresholds[head].key;
  const float* row = row_of(work, maps, index, tile);
  int equal = 0;
  for (int first = 0; first < span.visible(tile); first += kThreads) {
    const int block = first + static_cast<int>(threadIdx.x);
    equal += __syncthreads_count(block < span.visible(tile) && radix::key_of(row[block]) == key);
  }
  if (threadIdx.x == 0)
    work.equals[int64_t{head} * work.most_tiles + tile] = static_cast<uint32_t>(equal);
}

// --- The bits of a row tile, a lane a block of 64 keys.

constexpr int kBitKeys = 64;

// What a head's lines hold of a row tile.
struct Lines {
  const uint32_t* columns;
  const uint32_t* distances;  // by groups from the farthest on
  int blocks, position;

  static __device__ __forceinline__ bool has(const uint32_t* bits, int line) {
    return (bits[line / 32] >> (line % 32) & 1) != 0;
  }
  // Group t of the distances, 0 being the nearest, holds the 128 keys from position - 128 t on.
  __device__ __forceinline__ bool hold(int bit) const {
    if (has(columns, bit / 2)) return true;
    const int before = position - bit * kBitKeys;  // may be negative
    const int nearest = before + kBitKeys, last = (before + kBlock - 1) >> 7;
    for (int t = max((nearest - kBlock) >> 7, -1) + 1; t <= min(last, blocks - 1); ++t)
      if (has(distances, blocks - 1 - t)) return true;
    return false;
  }
};

__global__ void __launch_bounds__(kThreads) write_bits(Work work, Maps maps) {
  extern __shared__ uint32_t lines[];  // [2][words of lines]
  __shared__ uint32_t equals[kWarps];
  __shared__ uint64_t warp_sums[kWarps];
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const int tile = static_cast<int>(blockIdx.x), index = static_cast<int>(blockIdx.y);
  const int head = maps.first_head + index;
  if (tile >= span.tiles) return;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int end = span.end(tile), visible = span.visible(tile);
  const int64_t place = int64_t{work.span} * work.args.bounds.q_heads + head;
  const auto add_to_report = [&](int64_t keys) {
    HeadReport& report = work.args.plan.reports[place];
    const int64_t rows = end - span.position(tile);
    atomicAdd(reinterpret_cast<unsigned long long*>(&report.pairs),
              static_cast<unsigned long long>(rows * keys));
    atomicAdd(reinterpret_cast<unsigned long long*>(&report.dense_pairs),
              static_cast<unsigned long long>(rows * end));
  };
  if (span.is_dense) {
    if (thread == 0) add_to_report(end);
    return;
  }
  const int line_words = (work.most_blocks + 31) / 32;
  for (int i = thread; i < 2 * line_words; i += kThreads)
    lines[i] = work.lines[int64_t{head} * 2 * line_words + i];
  const bool is_query_aware = work.query_aware[head] != 0;
  const radix::Threshold threshold =
      is_query_aware ? work.thresholds[head] : radix::Threshold{~0u, 0};
  const float* row = row_of(work, maps, index, tile);
  const auto key = [&](int bit) {
    return is_query_aware && bit / 2 < visible ? radix::key_of(row[bit / 2]) : radix::kNone;
  };
  const int words = (span.length + 32 * kBitKeys - 1) / (32 * kBitKeys);
  const int own_words = (words + kWarps - 1) / kWarps;
  const int first = warp * own_words, last = min(words, first + own_words);
  // Entries that equal the threshold: those of tiles before, and of this tile's words before. Each
  // entry has two lanes.
  uint32_t before = 0;
  const bool has_ties = threshold.equal > 0;
  if (has_ties) {
    uint64_t of_tiles = 0;
    for (int i = thread; i < tile; i += kThreads)
      of_tiles += work.equals[int64_t{head} * work.most_tiles + i];
    before = static_cast<uint32_t>(radix::block_sum<kThreads>(of_tiles, warp_sums));
    uint32_t equal = 0;
    for (int word = first; word < last; ++word)
      equal += __popc(__ballot_sync(~0u, key(word * 32 + lane) == threshold.key)) / 2;
    if (lane == 0) equals[warp] = equal;
  }
  __syncthreads();
  if (has_ties)
    for (int i = 0; i < warp; ++i) before += equals[i];
  const Lines held{lines, lines + line_words, span.blocks, span.position(tile)};
  uint32_t* bits =
      work.args.plan.block_bits + place * work.args.plan.head_words + int64_t{tile} * words;
  int64_t keys = 0;
  for (int word = first; word < last; ++word) {
    const int bit = word * 32 + lane;
    const uint32_t own = key(bit);
    const uint32_t ties = __ballot_sync(~0u, has_ties && own == threshold.key);
    const uint32_t rank = before + __popc(ties & ((1u << (lane & ~1)) - 1)) / 2;
    before += __popc(ties) / 2;
    const bool is_taken =
        bit * kBitKeys < end &&
        (own > threshold.key || (own == threshold.key && rank < threshold.equal) || held.hold(bit));
    if (is_taken) keys += min(kBitKeys, end - bit * kBitKeys);
    const uint32_t taken = __ballot_sync(~0u, is_taken);
    if (lane == 0) bits[word] = taken;
  }
  keys = static_cast<int64_t>(radix::block_sum<kThreads>(static_cast<uint64_t>(keys), warp_sums));
  if (thread == 0) add_to_report(keys);
}

template <int kTiles>
void run_write(const cuda::Context& context, const Work& work, const Maps& maps, unsigned heads) {
  const int bytes = kTiles * work.most_blocks * static_cast<int>(sizeof(float));
  KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(write_maps<kTiles>),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  launch(context, write_maps<kTiles>,
         dim3(static_cast<unsigned>((work.most_tiles + kTiles - 1) / kTiles), heads), kThreads,
         static_cast<size_t>(bytes), work, maps);
}

}  // namespace

void run_maps(const cuda::Context& context, const Work& work, int first_head, int head_count,
              float* values) {
  const Maps maps{first_head, values};
  const auto heads = static_cast<unsigned>(head_count);
  const dim3 tiles(static_cast<unsigned>(work.most_tiles), heads);
  if (work.args.tau > 0) {  // else no head is query-aware
    const int row_bytes = work.most_blocks * static_cast<int>(sizeof(float));
    if (kMostTiles * row_bytes <= kProductBytes)
      run_write<kMostTiles>(context, work, maps, heads);
    else
      run_write<2>(context, work, maps, heads);
    // Code for clusters exists for 9.0 alone (see KvasirCuda.cmake).
    if (context.compute_capability == 90)
      launch(context, find_by_cluster, heads * Cluster::kBlocks, kSelectThreads, 0, work, maps);
    else
      launch(context, find_by_block, heads, kSelectThreads, 0, work, maps);
    launch(context, count_equals, tiles, kThreads, 0, work, maps);
  }
  const size_t line_bytes =
      2 * static_cast<size_t>((work.most_blocks + 31) / 32) * sizeof(uint32_t);
  launch(context, write_bits, tiles, kThreads, line_bytes, work, maps);
}

}  // namespace kvasir::kernels::flexprefill

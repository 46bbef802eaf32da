#pragma once
// Which items there are where spans have plans, and in which order: an item is 128 queries of one
// head. Once a step the row tiles are listed; once a layer their items by what the programs hold,
// in classes of nearly one number of keys, the most first, so that the multiprocessors, each of
// which takes the next item when it is done with one, end at nearly one time. Within a class they
// come KV head by KV head, row tile by row tile, query head by query head, so that what runs at one
// time reads the same keys and values.

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/attention_plan_walk.cuh"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels::sm90::plans {

inline constexpr int kRows = 128;  // of an item
inline constexpr int kKeyTile = 128;
inline constexpr int kHalfRows = 64;  // of a warpgroup

struct alignas(32) RowTile {
  int32_t rows;            // queries
  int32_t first_row;       // of q, out and lse
  int32_t first_position;  // of the first query
  int32_t length;          // positions of the sequence that are present
  int32_t first_page;      // in the page tables
  int32_t span, plan;
  int32_t tile;  // number of it in the span
};

inline constexpr int kClasses = 48;            // two for each power of two
inline constexpr int kListThreads = 256;       // and items of a block
inline constexpr int kClassifyThreads = 1024;  // of as many items

struct alignas(256) Header {
  int32_t next;   // items taken beyond the first of each block
  int32_t done;   // blocks that found nothing more to take
  int32_t tiles;  // row tiles
};

struct Shape {
  int q_heads, kv_heads;
  int most_tiles;
  __host__ __device__ int most_items() const { return most_tiles * q_heads; }
  __host__ __device__ int blocks() const {
    return (most_items() + kListThreads - 1) / kListThreads;
  }
};

struct Work {
  Header* header;
  RowTile* tiles;
  int32_t* counts;   // [blocks, kClasses]
  int32_t* items;    // [most_items], in the order of work
  uint8_t* classes;  // [most_items], in the order of heads and tiles
};

inline Shape shape_of(int q_heads, int kv_heads, int64_t max_spans, int64_t max_rows) {
  return {q_heads, kv_heads, static_cast<int>(max_rows / kRows + max_spans)};
}

// Null: `bytes` alone.
inline Work work_at(std::byte* base, const Shape& shape, size_t* bytes = nullptr) {
  size_t used = 0;
  const auto take = [&](size_t size) {
    std::byte* place = base ? base + used : nullptr;
    used += (size + 255) / 256 * 256;
    return place;
  };
  const auto items = static_cast<size_t>(shape.most_items());
  const Work work{.header = reinterpret_cast<Header*>(take(sizeof(Header))),
                  .tiles = reinterpret_cast<RowTile*>(
                      take(static_cast<size_t>(shape.most_tiles) * sizeof(RowTile))),
                  .counts = reinterpret_cast<int32_t*>(
                      take(static_cast<size_t>(shape.blocks()) * kClasses * sizeof(int32_t))),
                  .items = reinterpret_cast<int32_t*>(take(items * sizeof(int32_t))),
                  .classes = reinterpret_cast<uint8_t*>(take(items))};
  if (bytes) *bytes = used;
  return work;
}

// Item `i` in the order of heads and tiles.
struct ItemPlace {
  int tile, head;
};
__device__ __forceinline__ ItemPlace place_of(int i, int tiles, const Shape& shape) {
  const int group = shape.q_heads / shape.kv_heads;
  const int pair = i / group, kv_head = pair / tiles;
  return {pair - kv_head * tiles, kv_head * group + i - pair * group};
}

// The two warpgroups' rows: row tiles of the plan of their own, or halves of one.
__device__ __forceinline__ void parts_of(const RowTile& tile, int row_tile, PlanRows (&parts)[2]) {
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const int first = p * kHalfRows, last = min(first + kHalfRows, tile.rows) - 1;
    const bool is_own = row_tile == kHalfRows;
    parts[p] = {.first = tile.first_position + first,
                .last = tile.first_position + last,
                .tile = is_own ? 2 * tile.tile + p : tile.tile,
                .position = tile.first_position + (is_own ? first : 0)};
  }
}

__global__ void __launch_bounds__(kListThreads)
    list_tiles(const CudaAttentionSpan* spans, int span_count, Work work) {
  wait_for_inputs();
  let_next_begin();
  int base = 0;
  for (int i = 0; i < span_count; ++i) {
    const CudaAttentionSpan span = spans[i];
    if (span.plan < 0) continue;
    const int tiles = (span.rows + kRows - 1) / kRows;
    for (int tile = static_cast<int>(threadIdx.x); tile < tiles; tile += kListThreads)
      work.tiles[base + tile] = {.rows = min(kRows, span.rows - tile * kRows),
                                 .first_row = span.first_row + tile * kRows,
                                 .first_position = span.query_offset + tile * kRows,
                                 .length = span.query_offset + span.rows,
                                 .first_page = span.first_page,
                                 .span = i,
                                 .plan = span.plan,
                                 .tile = tile};
    base += tiles;
  }
  if (threadIdx.x > 0) return;
  *work.header = {.next = 0, .done = 0, .tiles = base};
}

// Keys that an item meets, by one warp; columns in relative runs are counted too.
__device__ __forceinline__ int keys_of(const CudaAttentionPlan& plan, int head,
                                       const PlanRows (&parts)[2], int window) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const HeadProgram program = plan.heads[head];
  const PlanSegment* segments = plan.segments + program.first;
  int keys = 0;
  for (int first = 0; first < program.count; first += 32) {
    const int at = first + lane;
    PlanSegment segment{.tile_end = 0};
    if (at < program.count) segment = segments[at];
    const bool is_run =
        segment.kind == SegmentKind::kAbsolute || segment.kind == SegmentKind::kRelative;
    if (is_run) {
      const KeyRange a = keys_of_run(segment, window, parts[0]);
      const KeyRange b = keys_of_run(segment, window, parts[1]);
      keys += a.empty()   ? max(b.last - b.first, 0)
              : b.empty() ? a.last - a.first
                          : max(a.last, b.last) - min(a.first, b.first);
    }
    unsigned others = __ballot_sync(kAllLanes, !is_run);
    for (; others != 0; others &= others - 1) {
      const PlanSegment other = segments[first + __ffs(static_cast<int>(others)) - 1];
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const KeyRange range = passing(other, window, parts[p]);
        if (range.empty() || (p == 1 && parts[0].tile == parts[1].tile && !parts[0].empty()))
          continue;
        if (other.kind == SegmentKind::kColumns) {
          const int32_t* columns = plan.columns + other.first;
          const int end = lower_bound_of(columns, other.count, range.last);
          const int begin = lower_bound_of(columns, other.count, range.first);
          if (lane == 0 && p == 0) keys += end - begin;
        } else {
          const uint32_t* words =
              plan.block_bits + other.first + parts[p].tile * int64_t{other.count};
          const int end = min(other.count, (range.last - 1) / 2048 + 1);
          for (int word = range.first / 2048 + lane; word < end; word += 32)
            keys += __popc(words[word]) * (parts[0].tile == parts[1].tile ? 64 : 32);
        }
      }
    }
  }
  return __reduce_add_sync(kAllLanes, keys);
}

__device__ __forceinline__ int class_of(int keys) {
  const int tiles = keys / kKeyTile + 1, log2 = 31 - __clz(tiles);
  const int half = log2 > 0 ? tiles >> (log2 - 1) & 1 : 0;
  return max(kClasses - 1 - 2 * log2 - half, 0);
}

// A warp an item after the other.
__global__ void __launch_bounds__(kClassifyThreads)
    classify_items(const CudaAttentionPlan* plans, int window, Shape shape, Work work) {
  __shared__ int counts[kClasses];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  if (thread < kClasses) counts[thread] = 0;
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  const int tiles = work.header->tiles, items = tiles * shape.q_heads;
  constexpr int kItemsOfWarp = kListThreads / (kClassifyThreads / 32);
  const int first = static_cast<int>(blockIdx.x) * kListThreads + thread / 32 * kItemsOfWarp;
  for (int item = first; item < min(first + kItemsOfWarp, items); ++item) {
    const ItemPlace place = place_of(item, tiles, shape);
    const RowTile tile = work.tiles[place.tile];
    const CudaAttentionPlan plan = plans[tile.plan];
    PlanRows parts[2];
    parts_of(tile, plan.row_tile, parts);
    const int its_class = class_of(keys_of(plan, place.head, parts, window));
    if (lane > 0) continue;
    work.classes[item] = static_cast<uint8_t>(its_class);
    atomicAdd(&counts[its_class], 1);
  }
  __syncthreads();
  if (thread < kClasses) work.counts[blockIdx.x * kClasses + thread] = counts[thread];
}

__global__ void __launch_bounds__(kListThreads) order_items(Shape shape, Work work) {
  __shared__ int totals[kClasses], before[kClasses];
  __shared__ int of_warp[kListThreads / 32][kClasses];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int block = static_cast<int>(blockIdx.x);
  for (int i = thread; i < kClasses; i += kListThreads) totals[i] = before[i] = 0;
  for (int i = thread; i < kListThreads / 32 * kClasses; i += kListThreads) (&of_warp[0][0])[i] = 0;
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  const int items = work.header->tiles * shape.q_heads, item = block * kListThreads + thread;
  const int blocks = (items + kListThreads - 1) / kListThreads;
  if (block >= blocks) return;
  for (int i = thread; i < blocks * kClasses; i += kListThreads) {
    const int count = work.counts[i];
    if (count == 0) continue;
    atomicAdd(&totals[i % kClasses], count);
    if (i / kClasses < block) atomicAdd(&before[i % kClasses], count);
  }
  const int its_class = item < items ? work.classes[item] : kClasses;
  const unsigned alike = __match_any_sync(kAllLanes, its_class);
  const int rank = __popc(alike & ((1u << lane) - 1));
  if (rank == 0 && item < items) of_warp[warp][its_class] = __popc(alike);
  __syncthreads();
  if (item >= items) return;
  int place = before[its_class] + rank;
  for (int i = 0; i < its_class; ++i) place += totals[i];
  for (int i = 0; i < warp; ++i) place += of_warp[i][its_class];
  work.items[place] = item;
}

}  // namespace kvasir::kernels::sm90::plans

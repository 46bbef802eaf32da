#pragma once
// What prefill attention on Hopper is cut into, and in which order.
//
// A row tile is some consecutive queries of a span times some heads ("pack") that share a KV head,
// stacked as rows: row i is head i % pack of query i / pack. An item is a row tile of one KV head:
// it meets the keys in tiles of kKeyTile, ascending, that start at multiples of kKeyTile.
//
// Items come in classes by the number of their keys, a class for each power of two, the longest
// first, so that the multiprocessors, each of which takes the next item when it is done with one,
// end at nearly one time. Within a class they come KV head by KV head, so that what runs at one
// time reads the same keys and values.

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels::sm90::prefill {

inline constexpr int kKeyTile = 128;
inline constexpr int kPagesPerTile = kKeyTile / static_cast<int>(kPageTokens);

struct alignas(32) RowTile {
  int32_t rows;            // queries
  int32_t first_row;       // of q, out and lse
  int32_t first_position;  // of the first query
  int32_t length;          // positions of the sequence that are present
  int32_t first_page;      // in the page tables
};

// Class c has from 2^(kClasses - 1 - c) keys to below twice as many.
inline constexpr int kClasses = 24;

// At the beginning of the workspace; the row tiles follow.
struct alignas(256) WorkHeader {
  int32_t next;                 // items taken beyond the first of each block
  int32_t done;                 // blocks that found nothing more to take
  int32_t class_end[kClasses];  // in the list of row tiles
};

struct WorkShape {
  int pack;           // heads stacked; divides q_heads / kv_heads
  int rows_per_tile;  // queries of a row tile
};

// Heads are stacked whole groups at a time where that leaves few rows of a tile unused.
inline WorkShape work_shape(int q_heads, int kv_heads, int tile_rows, int most_heads) {
  const int group = q_heads / kv_heads;
  int pack = group < most_heads ? group : most_heads;
  while (group % pack != 0) --pack;
  return {pack, tile_rows / pack};
}

inline size_t work_bytes(const WorkShape& shape, int max_spans, int64_t max_rows) {
  const auto tiles = static_cast<size_t>(max_rows / shape.rows_per_tile + max_spans);
  return sizeof(WorkHeader) + tiles * sizeof(RowTile);
}

struct Work {
  WorkHeader* header;
  RowTile* tiles;
};
inline Work work_at(std::byte* workspace) {
  auto* header = reinterpret_cast<WorkHeader*>(workspace);
  return {header, reinterpret_cast<RowTile*>(header + 1)};
}

// How many row tiles of a span are of the classes up to `last`. They are its last ones, as keys
// only become more from row to row.
__device__ __forceinline__ int tiles_up_to(int last, const CudaAttentionSpan& span,
                                           int rows_per_tile, int window) {
  const int tiles = (span.rows + rows_per_tile - 1) / rows_per_tile;
  if (last == kClasses - 1) return tiles;
  const int keys = 1 << (kClasses - 1 - last);
  if (keys > window) return 0;
  // The keys of a tile are counted by what would be its last row if it were full.
  const int shorter = (keys - 1 - span.query_offset) / rows_per_tile;
  return keys <= span.query_offset ? tiles : max(tiles - shorter, 0);
}

// One block a span: puts its row tiles into the list, unless it has a plan.
inline constexpr int kListThreads = 256;
__global__ void __launch_bounds__(kListThreads)
    list_row_tiles(const CudaAttentionSpan* spans, int span_count, bool has_plans,
                   int rows_per_tile, int window, Work work) {
  const auto span_at = [&](int i) {
    CudaAttentionSpan span = spans[i];
    if (has_plans && span.plan >= 0) span.rows = 0;
    return span;
  };
  __shared__ int class_end[kClasses];     // over all spans
  __shared__ int tiles_before[kClasses];  // of the class or an earlier one, of the spans before
  const int thread = static_cast<int>(threadIdx.x), mine = static_cast<int>(blockIdx.x);
  if (thread < kClasses) class_end[thread] = tiles_before[thread] = 0;
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  for (int i = thread; i < span_count * kClasses; i += kListThreads) {
    const int span = i / kClasses, each = i % kClasses;
    const int tiles = tiles_up_to(each, span_at(span), rows_per_tile, window);
    if (tiles == 0) continue;
    atomicAdd(&class_end[each], tiles);
    if (span < mine) atomicAdd(&tiles_before[each], tiles);
  }
  __syncthreads();
  const CudaAttentionSpan span = span_at(mine);
  const int tiles = (span.rows + rows_per_tile - 1) / rows_per_tile;
  for (int i = thread; i < tiles; i += kListThreads) {
    int each = 0, earlier = 0;  // its class, and the tiles of this span in earlier ones
    for (int up_to = 0; (up_to = tiles_up_to(each, span, rows_per_tile, window)) <= i; ++each)
      earlier = up_to;
    int place = i - earlier + tiles_before[each];
    if (each > 0) place += class_end[each - 1] - tiles_before[each - 1];
    const int row = (tiles - 1 - i) * rows_per_tile;
    work.tiles[place] = {.rows = min(rows_per_tile, span.rows - row),
                         .first_row = span.first_row + row,
                         .first_position = span.query_offset + row,
                         .length = span.query_offset + span.rows,
                         .first_page = span.first_page};
  }
  if (mine > 0) return;
  if (thread < kClasses) work.header->class_end[thread] = class_end[thread];
  if (thread == 0) work.header->next = work.header->done = 0;
}

struct Item {
  RowTile tile;    // without rows: there is no item
  int first_head;  // of the stacked ones
  int kv_head;
};

// Finds items by their number, which only grows.
class ItemFinder {
 public:
  __device__ __forceinline__ ItemFinder(const Work& work, int q_heads, int kv_heads, int pack)
      : work_(work),
        kv_heads_(kv_heads),
        pack_(pack),
        packs_(q_heads / kv_heads / pack),
        end_(work.header->class_end[0]) {}

  __device__ __forceinline__ Item find(int index) {
    while (index >= end_ * packs_ * kv_heads_) {
      if (class_ + 1 == kClasses) return Item{};
      begin_ = end_;
      end_ = work_.header->class_end[++class_];
    }
    const int in_class = index - begin_ * packs_ * kv_heads_;
    const int tile = in_class / packs_, tiles = end_ - begin_;
    const int kv_head = tile / tiles;
    return {.tile = work_.tiles[begin_ + tile - kv_head * tiles],
            .first_head = (kv_head * packs_ + in_class - tile * packs_) * pack_,
            .kv_head = kv_head};
  }

 private:
  Work work_;
  int kv_heads_, pack_, packs_;  // packs per KV head
  int class_ = 0, begin_ = 0, end_;
};

// Which key tiles an item visits; all else that depends on positions is the masks. There is at
// least one: where no key is visible (positions before 0), it is masked altogether.
struct KeyTiles {
  int first = 0, count = 0;

  KeyTiles() = default;
  __host__ __device__ KeyTiles(int64_t first_position, int64_t rows, int64_t window) {
    const int64_t oldest = first_position - window + 1, newest = first_position + rows - 1;
    first = oldest > 0 ? static_cast<int>(oldest / kKeyTile) : 0;
    count = newest > 0 ? static_cast<int>(newest / kKeyTile) + 1 - first : 1;
  }
  __device__ __forceinline__ int operator[](int i) const { return first + i; }
};

}  // namespace kvasir::kernels::sm90::prefill

#pragma once
// What prefill attention on Hopper is cut into, and in which order.
//
// A row tile is some consecutive queries of a span times some heads ("pack") that share a KV head,
// stacked as rows: row i is head i % pack of query i / pack. An item is a row tile of one KV head:
// it meets the keys in tiles of kKeyTile, ascending, that start at multiples of kKeyTile.
//
// Items are counted KV head by KV head, so that what runs at one time reads the same keys and
// values; within a KV head the spans with the most keys come first, and within a span its last
// rows, so that the multiprocessors, each of which takes the next item when it is done with one,
// end at nearly one time.

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels::prefill_sm90 {

inline constexpr int kKeyTile = 128;
inline constexpr int kPagesPerTile = kKeyTile / static_cast<int>(kPageTokens);

struct RowTile {
  int32_t span = 0;
  int32_t row = 0;  // within the span
};

// At the beginning of the workspace; the row tiles follow.
struct alignas(256) WorkHeader {
  int32_t tiles;  // in the list
  int32_t next;   // items taken beyond the first of each block
  int32_t done;   // blocks that found nothing more to take
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

// One block a span: writes the row tiles of its span behind those of the spans before it in order.
inline constexpr int kListThreads = 256;
__global__ void __launch_bounds__(kListThreads)
    list_row_tiles(const CudaAttentionSpan* spans, int span_count, int rows_per_tile, Work work) {
  __shared__ int tiles_before, tiles_in_all;
  if (threadIdx.x == 0) tiles_before = tiles_in_all = 0;
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  const int mine = static_cast<int>(blockIdx.x);
  const int rows = spans[mine].rows, length = spans[mine].query_offset + rows;
  int before = 0, all = 0;
  for (int i = static_cast<int>(threadIdx.x); i < span_count; i += kListThreads) {
    const int others = spans[i].query_offset + spans[i].rows;
    const int tiles = (spans[i].rows + rows_per_tile - 1) / rows_per_tile;
    all += tiles;
    if (others > length || (others == length && i < mine)) before += tiles;
  }
  atomicAdd(&tiles_before, before);
  atomicAdd(&tiles_in_all, all);
  __syncthreads();
  const int tiles = (rows + rows_per_tile - 1) / rows_per_tile;
  for (int i = static_cast<int>(threadIdx.x); i < tiles; i += kListThreads)
    work.tiles[tiles_before + i] = {mine, (tiles - 1 - i) * rows_per_tile};
  if (mine == 0 && threadIdx.x == 0) *work.header = {tiles_in_all, 0, 0};
}

struct Item {
  int rows;            // queries in the row tile; 0 = there is no item
  int first_row;       // of q, out and lse
  int first_position;  // of the first query
  int length;          // positions of the sequence that are present
  int first_page;      // in the page tables
  int first_head;      // of the stacked ones
  int kv_head;
};

__device__ __forceinline__ Item find_item(const Work& work, const WorkShape& shape, int q_heads,
                                          int kv_heads, const CudaAttentionSpan* spans,
                                          int index) {
  const int packs = q_heads / kv_heads / shape.pack, tiles = work.header->tiles;
  if (index >= tiles * packs * kv_heads) return Item{};
  const RowTile tile = work.tiles[index / packs % tiles];
  const CudaAttentionSpan span = spans[tile.span];
  const int kv_head = index / packs / tiles;
  return {.rows = min(shape.rows_per_tile, span.rows - tile.row),
          .first_row = span.first_row + tile.row,
          .first_position = span.query_offset + tile.row,
          .length = span.query_offset + span.rows,
          .first_page = span.first_page,
          .first_head = (kv_head * packs + index % packs) * shape.pack,
          .kv_head = kv_head};
}

// Which key tiles an item visits; all else that depends on positions is the masks. There is at
// least one: where no key is visible (positions before 0), it is masked altogether.
struct KeyTiles {
  int first, count;

  __host__ __device__ KeyTiles(int64_t first_position, int64_t rows, int64_t window) {
    const int64_t oldest = first_position - window + 1, newest = first_position + rows - 1;
    first = oldest > 0 ? static_cast<int>(oldest / kKeyTile) : 0;
    count = newest > 0 ? static_cast<int>(newest / kKeyTile) + 1 - first : 1;
  }
  __device__ __forceinline__ int operator[](int i) const { return first + i; }
};

}  // namespace kvasir::kernels::prefill_sm90

#pragma once
// How items, queries, keys and values come into shared memory where spans have plans: the work of
// the first warpgroup of prefill_attention_plan_sm90.cu.
//   Warp 0 copies keys and values, up to 64 rows of a page at a time (TMA).
//   Warp 1 takes items and walks the programs of their heads (attention_plan_walk.cuh), some tiles
//     ahead of everybody, and describes each tile in a ring.
//   Warps 2 and 3 load queries, and gather the keys and the values of tiles of single columns.
//
// A tile lies as groups of 8 keys, [group][panel][8][64 columns], so that a piece of any number of
// groups is one box of the copy engine and every group has its place whatever lies beside it.

#include <cuda.h>

#include <type_traits>

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/prefill_attention_plan_sm90_work.cuh"
#include "kernels/paged_attention/sm90_async.cuh"

namespace kvasir::kernels::sm90::plans {

inline constexpr int kPageRows = static_cast<int>(kPageTokens);
inline constexpr int kPanelColumns = 64;
inline constexpr int kGroups = kKeyTile / kGroupKeys;  // of keys, in a tile
inline constexpr int kGroupsOfPage = kPageRows / kGroupKeys;
inline constexpr int kPieceSizes = 4;     // 1, 2, 4 and 8 groups
inline constexpr int kQueryThreads = 64;  // that load queries
inline constexpr int kQueryStages = 2;
inline constexpr int kItems = 4;  // known ahead
inline constexpr int kTiles = 8;  // described ahead

template <class Element, int kHeadDimension>
struct Config {
  using T = Element;
  static constexpr int kHeadDim = kHeadDimension;
  static constexpr int kStages = kHeadDim == 128 ? 2 : 4;
  static constexpr int kPanels = kHeadDim / kPanelColumns;
  static constexpr int kThreads = 384;
  static constexpr int kConsumerWarps = 8;
  static constexpr int kProducerRegisters = 88;
  static constexpr int kConsumerRegisters = 208;
};

struct Item {
  RowTile tile;  // without rows: there is no item
  int head;
};

template <class C>
struct Shared {
  using T = typename C::T;
  T queries[kQueryStages][C::kPanels][kRows][kPanelColumns];
  T keys[C::kStages][kGroups][C::kPanels][kGroupKeys][kPanelColumns];
  T values[C::kStages][kGroups][C::kPanels][kGroupKeys][kPanelColumns];
  PlanTile<kKeyTile> tiles[kTiles];
  int64_t gathered_rows[2][kKeyTile];  // of keys and of values, see find_rows
  Barrier keys_full[C::kStages], keys_free[C::kStages];
  Barrier values_full[C::kStages], values_free[C::kStages];
  Barrier keys_go[C::kStages], values_go[C::kStages];  // free, and to be gathered
  Barrier last_values;  // copied, but not yet cleared behind the sequence's end
  Barrier queries_full[kQueryStages], queries_free[kQueryStages];
  Barrier tile_full[kTiles], tile_free[kTiles];
  Barrier item_full[kItems], item_free[kItems];
  Item items[kItems];
};

struct Params {
  const void* q;
  int64_t q_row_stride;
  void* out;
  int64_t out_row_stride;
  float* lse;
  const uint32_t* page_tables;
  const std::byte* pages;
  int64_t page_bytes;
  const CudaAttentionPlan* plans;
  unsigned long long* scored_pairs;
  int window;
  int page_count;
  float scale_log2;  // scale * log2(e)
  Shape shape;
  Work work;
};

// The pool in boxes of 1, 2, 4 and 8 groups of one head's keys or values.
struct Maps {
  CUtensorMap of_groups[kPieceSizes];
};

template <class C>
struct Producer {
  using T = typename C::T;
  static constexpr int kGroupBytes = C::kPanels * kGroupKeys * 128;
  static constexpr int kTileBytes = kGroups * kGroupBytes;
  static constexpr int kRowBytes = C::kHeadDim * static_cast<int>(sizeof(T));
  using TileMemory = T (*)[C::kPanels][kGroupKeys][kPanelColumns];

  static __device__ __forceinline__ void init_barriers(Shared<C>& shared) {
    for (int i = 0; i < C::kStages; ++i) {
      shared.keys_full[i].init(1);
      shared.values_full[i].init(1);
      shared.keys_free[i].init(C::kConsumerWarps);
      shared.values_free[i].init(C::kConsumerWarps);
      shared.keys_go[i].init(1);
      shared.values_go[i].init(1);
    }
    shared.last_values.init(1);
    for (int i = 0; i < kQueryStages; ++i) {
      shared.queries_full[i].init(kQueryThreads);
      shared.queries_free[i].init(C::kConsumerWarps);
    }
    for (int i = 0; i < kTiles; ++i) {
      shared.tile_full[i].init(32);  // each lane says that what it wrote is there
      shared.tile_free[i].init(C::kConsumerWarps + 3);  // and all warps that copy
    }
    for (int i = 0; i < kItems; ++i) {
      shared.item_full[i].init(1);
      shared.item_free[i].init(C::kThreads - 32);  // all but the warp that takes items
    }
    fence_barrier_init();
  }

  static __device__ __forceinline__ Item next_item(Shared<C>& shared, Ring<kItems>& items) {
    shared.item_full[items.stage].wait(items.parity);
    const Item item = shared.items[items.stage];
    shared.item_free[items.stage].arrive();
    items.advance();
    return item;
  }

  // --- one warp: items and their key tiles

  static __device__ __forceinline__ Item find_item(const Params& params, int index) {
    const int tiles = params.work.header->tiles;
    if (index >= tiles * params.shape.q_heads) return {};
    const ItemPlace place = place_of(params.work.items[index], tiles, params.shape);
    return {.tile = params.work.tiles[place.tile], .head = place.head};
  }

  // The last block to find nothing leaves the counters as it found them, for the next run over the
  // same list.
  static __device__ __forceinline__ void describe_tiles(Shared<C>& shared, const Params& params) {
    const int lane = static_cast<int>(threadIdx.x) % 32, blocks = static_cast<int>(gridDim.x);
    int index = static_cast<int>(blockIdx.x);
    Ring<kTiles> tiles;
    for (Ring<kItems> items;; items.advance()) {
      int next = 0;
      if (lane == 0) next = blocks + atomicAdd(&params.work.header->next, 1);
      const Item item = find_item(params, index);
      shared.item_free[items.stage].wait(items.parity ^ 1);
      if (lane == 0) {
        shared.items[items.stage] = item;
        shared.item_full[items.stage].arrive();
      }
      if (item.tile.rows == 0) break;
      walk(shared, params, item, tiles);
      index = __shfl_sync(kAllLanes, next, 0);
    }
    if (lane > 0) return;
    __threadfence();
    if (atomicAdd(&params.work.header->done, 1) + 1 < blocks) return;
    params.work.header->next = 0;
    params.work.header->done = 0;
  }

  static __device__ __forceinline__ void walk(Shared<C>& shared, const Params& params,
                                              const Item& item, Ring<kTiles>& tiles) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const CudaAttentionPlan plan = params.plans[item.tile.plan];
    PlanRows parts[2];
    parts_of(item.tile, plan.row_tile, parts);
    PlanWalk<kKeyTile, 2> walk(plan, item.head, parts, params.window);
    unsigned long long keys = 0;
    bool is_end = false;
    for (; !is_end; tiles.advance()) {
      PlanTile<kKeyTile>& tile = shared.tiles[tiles.stage];
      shared.tile_free[tiles.stage].wait(tiles.parity ^ 1);
      walk.next(tile);
      __syncwarp();
      const uint32_t flags = tile.flags;
      is_end = (flags & kTileIsEnd) != 0;
      if (!is_end) keys += (flags & kTileIsSplit) != 0 ? kKeyTile / 2 : kKeyTile;
      shared.tile_full[tiles.stage].arrive();
    }
    if (lane == 0 && params.scored_pairs)
      atomicAdd(params.scored_pairs + item.tile.span, keys * item.tile.rows);
  }

  // --- one warp: copies

  // What a lane copies of a tile.
  struct Piece {
    int size = -1;  // log2 of groups; -1 = nothing
    int group = 0;  // in its page
    int page = 0;
    uint32_t flags = 0;      // of the tile
    unsigned ends_here = 0;  // groups with keys behind the sequence's end
  };

  static __device__ __forceinline__ Piece find_piece(const PlanTile<kKeyTile>& tile,
                                                     const Item& item, const Params& params) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Piece piece{.flags = tile.flags};
    if ((piece.flags & (kTileIsEnd | kTileHasColumns)) != 0) return piece;
    const int key = tile.groups[lane % kGroups];
    const bool exists = key >= 0 && key < item.tile.length;
    piece.page =
        exists
            ? static_cast<int>(params.page_tables[int64_t{item.tile.first_page} + key / kPageRows])
            : params.page_count;
    piece.ends_here =
        __ballot_sync(kAllLanes, exists && key + kGroupKeys > item.tile.length) & 0xffff;
    piece.group = key / kGroupKeys & (kGroupsOfPage - 1);
    // Aligned powers of two of groups that follow each other in a page go in one copy.
    const int before = __shfl_up_sync(kAllLanes, key, 1);
    const unsigned begins = __ballot_sync(
        kAllLanes, lane % kGroups == 0 || piece.group == 0 || key != before + kGroupKeys);
    if (lane >= kGroups) return piece;
    const int first = 31 - __clz(static_cast<int>(begins & ((2u << lane) - 1)));
    const int end = lane + __ffs(static_cast<int>(begins >> (lane + 1)));
#pragma unroll
    for (int size = 0; size < kPieceSizes; ++size) {
      const int offset = piece.group & ((1 << size) - 1);
      if (lane - offset >= first && lane - offset + (1 << size) <= end)
        piece.size = offset == 0 ? size : -1;
    }
    return piece;
  }

  static __device__ __forceinline__ void copy_tile(TileMemory to, const Maps& maps,
                                                   Barrier& barrier, const Piece& piece,
                                                   int first_group) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane == 0) barrier.arrive_and_expect(kTileBytes);
    __syncwarp();
#pragma unroll
    for (int size = 0; size < kPieceSizes; ++size)
      if (piece.size == size)
        copy_box(to[lane], maps.of_groups[size], barrier, 0, 0, 0, first_group + piece.group,
                 piece.page);
    __syncwarp();
  }

  // Rows behind the sequence's end may hold anything, and a weight of zero does not clear a NaN.
  static __device__ __forceinline__ void clear_rows(TileMemory values,
                                                    const PlanTile<kKeyTile>& tile, unsigned groups,
                                                    int length) {
    constexpr int kVectors = C::kPanels * kPanelColumns * static_cast<int>(sizeof(T)) / 16;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (; groups != 0; groups &= groups - 1) {
      const int group = __ffs(static_cast<int>(groups)) - 1;
      const int first = length - tile.groups[group];
      for (int i = lane + first * kVectors; i < kGroupKeys * kVectors; i += 32) {
        const int row = i / kVectors, vector = i % kVectors;
        auto* to = reinterpret_cast<uint4*>(values[group][vector / 8][row]);
        to[vector % 8] = make_uint4(0, 0, 0, 0);
      }
    }
    fence_async_shared();
    __syncwarp();
  }

  static __device__ __forceinline__ void copy_keys_and_values(Shared<C>& shared, const Maps& maps,
                                                              const Params& params) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Ring<C::kStages> keys, values;
    Ring<kTiles> tiles;
    Ring<kItems> items;
    uint32_t last_parity = 0;
    for (;;) {
      const Item item = next_item(shared, items);
      if (item.tile.rows == 0) return;
      const int kv_head = item.head / (params.shape.q_heads / params.shape.kv_heads);
      const int key_group = kv_head * 2 * kGroupsOfPage, value_group = key_group + kGroupsOfPage;
      const auto next_piece = [&] {
        shared.tile_full[tiles.stage].wait(tiles.parity);
        return find_piece(shared.tiles[tiles.stage], item, params);
      };
      Piece next = next_piece(), before;
      int stage_before = 0;
      // Keys run one tile ahead of values. Columns are gathered by others, but when, is said here:
      // a barrier's parity tells only neighbouring rounds apart, so whoever waits for a place waits
      // for every round of it.
      for (bool has_before = false;; has_before = true) {
        const Piece piece = next;
        const int stage = tiles.stage;
        tiles.advance();
        const bool is_end = (piece.flags & kTileIsEnd) != 0;
        if (!is_end) {
          shared.keys_free[keys.stage].wait(keys.parity ^ 1);
          if ((piece.flags & kTileHasColumns) == 0)
            copy_tile(shared.keys[keys.stage], maps, shared.keys_full[keys.stage], piece,
                      key_group);
          else if (lane == 0)
            shared.keys_go[keys.stage].arrive();
          keys.advance();
        }
        if (has_before) {
          shared.values_free[values.stage].wait(values.parity ^ 1);
          Barrier& full = shared.values_full[values.stage];
          const bool is_last = before.ends_here != 0;
          if ((before.flags & kTileHasColumns) == 0)
            copy_tile(shared.values[values.stage], maps, is_last ? shared.last_values : full,
                      before, value_group);
          else if (lane == 0)
            shared.values_go[values.stage].arrive();
          if (is_last) {
            shared.last_values.wait(last_parity);
            last_parity ^= 1;
            clear_rows(shared.values[values.stage], shared.tiles[stage_before], before.ends_here,
                       item.tile.length);
            if (lane == 0) full.arrive();
          }
          values.advance();
          if (lane == 0) shared.tile_free[stage_before].arrive();
        }
        before = piece;
        stage_before = stage;
        if (is_end) {
          if (lane == 0) shared.tile_free[stage].arrive();
          break;
        }
        next = next_piece();
      }
    }
  }

  // --- two warps: queries, and the keys (0) or the values (1) of columns

  // What is no row of the item becomes zeros.
  static __device__ __forceinline__ void load_queries(Shared<C>& shared, const Params& params,
                                                      const Item& item, int stage) {
    constexpr int kVectors = C::kHeadDim * static_cast<int>(sizeof(T)) / 16;  // of a row
    constexpr int kStep = kQueryThreads / kVectors;
    const int thread = static_cast<int>(threadIdx.x) % kQueryThreads;
    const int vector = thread % kVectors;
    const T* q = static_cast<const T*>(params.q) + item.tile.first_row * params.q_row_stride +
                 int64_t{item.head} * C::kHeadDim + vector * 8;
    const uint32_t panel = shared_address(shared.queries[stage][vector / 8]);
    for (int row = thread / kVectors; row < kRows; row += kStep) {
      const bool valid = row < item.tile.rows;
      copy_async_or_zero(panel + row * 128 + (vector % 8 ^ row % 8) * 16,
                         q + (valid ? row * params.q_row_stride : 0), valid);
    }
    wait_for_vectors();
    fence_async_shared();
    shared.queries_full[stage].arrive();
  }

  // Where the columns of a tile lie, from the pool's beginning on; -1 = nowhere.
  static __device__ __forceinline__ void find_rows(int64_t (&rows)[kKeyTile],
                                                   const PlanTile<kKeyTile>& tile, const Item& item,
                                                   const Params& params, int which) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t* table = params.page_tables + item.tile.first_page;
    const int kv_head = item.head / (params.shape.q_heads / params.shape.kv_heads);
    const int first_row = (kv_head * 2 + which) * kPageRows;
#pragma unroll
    for (int i = 0; i < kKeyTile / 32; ++i) {
      const int key = tile.columns[i * 32 + lane];
      const int64_t page = key < 0 ? 0 : int64_t{table[key / kPageRows]} * params.page_bytes;
      rows[i * 32 + lane] = key < 0 ? -1 : page + int64_t{first_row + key % kPageRows} * kRowBytes;
    }
    __syncwarp();
  }

  static __device__ __forceinline__ void gather(TileMemory to, const int64_t (&rows)[kKeyTile],
                                                const Params& params) {
    constexpr int kVectors = kRowBytes / 16;
    constexpr int kStep = 32 / kVectors;  // rows that the warp copies at once
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int vector = lane % kVectors, first = lane / kVectors;
    const std::byte* base = params.pages + vector * 16;
    const uint32_t panel = shared_address(to) + vector / 8 * (kGroupKeys * 128);
#pragma unroll 2
    for (int group = 0; group < kGroups; ++group)
#pragma unroll
      for (int i = 0; i < kGroupKeys; i += kStep) {
        const int row = i + first;
        const int64_t at = rows[group * kGroupKeys + row];
        copy_async_or_zero(panel + group * kGroupBytes + row * 128 + (vector % 8 ^ row) * 16,
                           base + (at < 0 ? 0 : at), at >= 0);
      }
    wait_for_vectors();
    fence_async_shared();
    __syncwarp();
  }

  static __device__ __forceinline__ void load_and_gather(Shared<C>& shared, const Params& params,
                                                         int which) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    auto& full = which == 0 ? shared.keys_full : shared.values_full;
    auto& go = which == 0 ? shared.keys_go : shared.values_go;
    auto& memory = which == 0 ? shared.keys : shared.values;
    Ring<C::kStages> stages;
    uint32_t parities = 0;  // of the next `go` of each place
    Ring<kTiles> tiles;
    Ring<kItems> items;
    for (Ring<kQueryStages> queries;; queries.advance()) {
      const Item item = next_item(shared, items);
      if (item.tile.rows == 0) return;
      shared.queries_free[queries.stage].wait(queries.parity ^ 1);
      load_queries(shared, params, item, queries.stage);
      for (bool is_end = false; !is_end; tiles.advance()) {
        const PlanTile<kKeyTile>& tile = shared.tiles[tiles.stage];
        shared.tile_full[tiles.stage].wait(tiles.parity);
        is_end = (tile.flags & kTileIsEnd) != 0;
        const bool has_columns = (tile.flags & kTileHasColumns) != 0;
        if (has_columns) {
          find_rows(shared.gathered_rows[which], tile, item, params, which);
          go[stages.stage].wait(parities >> stages.stage & 1);
          parities ^= 1u << stages.stage;
          gather(memory[stages.stage], shared.gathered_rows[which], params);
          if (lane == 0) full[stages.stage].arrive();
        }
        if (!is_end) stages.advance();
        __syncwarp();
        if (lane == 0) shared.tile_free[tiles.stage].arrive();
      }
    }
  }
};

}  // namespace kvasir::kernels::sm90::plans

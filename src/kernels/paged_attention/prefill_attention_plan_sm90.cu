// Attention plans (attention_plan.h) on Hopper. The structure is that of prefill_attention_sm90.cu:
// persistent blocks whose second and third warpgroup own 64 rows each of an item's 128 and take
// turns with the matrix units. What differs is where key tiles come from. In the first warpgroup
//   warp 0 copies keys and values, up to 64 rows of a page at a time (TMA),
//   warp 1 takes items and walks the programs of their heads (attention_plan_walk.cuh), some tiles
//     ahead of everybody, and describes each tile in a ring,
//   warps 2 and 3 load queries, and gather the keys and the values of tiles of single columns.
//
// A tile lies as groups of 8 keys, [group][panel][8][64 columns], so that a piece of any number of
// groups is one box of the copy engine and every group has its place whatever lies beside it.

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/prefill_attention_plan_sm90_work.cuh"
#include "kernels/paged_attention/prefill_attention_sm90_plans.h"
#include "kernels/paged_attention/prefill_attention_sm90_softmax.cuh"
#include "kernels/paged_attention/sm90_async.cuh"
#include "kernels/paged_attention/sm90_wgmma.cuh"

namespace kvasir::kernels::sm90::plans {
namespace {

using namespace prefill;

constexpr int kPageRows = static_cast<int>(kPageTokens);
constexpr int kPanelColumns = 64;
constexpr int kGroups = kKeyTile / kGroupKeys;  // of keys, in a tile
constexpr int kGroupsOfPage = kPageRows / kGroupKeys;
constexpr int kPieceSizes = 4;     // 1, 2, 4 and 8 groups
constexpr int kQueryThreads = 64;  // that load queries
constexpr int kQueryStages = 2;
constexpr int kItems = 4;  // known ahead
constexpr int kTiles = 8;  // described ahead
constexpr float kLn2 = 0.693147180559945f;

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
  uint32_t gathered_rows[2][kKeyTile];  // of keys and of values: page * 64 + row, or ~0
  Barrier keys_full[C::kStages], keys_free[C::kStages];
  Barrier values_full[C::kStages], values_free[C::kStages];
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

// A place in a ring and the parity of its round.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <class C>
struct Kernel {
  using T = typename C::T;
  static constexpr int kGroupBytes = C::kPanels * kGroupKeys * 128;
  static constexpr int kTileBytes = kGroups * kGroupBytes;
  using TileMemory = T (*)[C::kPanels][kGroupKeys][kPanelColumns];

  static __device__ __forceinline__ void init_barriers(Shared<C>& shared) {
    for (int i = 0; i < C::kStages; ++i) {
      shared.keys_full[i].init(1);
      shared.values_full[i].init(1);
      shared.keys_free[i].init(C::kConsumerWarps);
      shared.values_free[i].init(C::kConsumerWarps);
    }
    shared.last_values.init(1);
    for (int i = 0; i < kQueryStages; ++i) {
      shared.queries_full[i].init(kQueryThreads);
      shared.queries_free[i].init(C::kConsumerWarps);
    }
    for (int i = 0; i < kTiles; ++i) {
      shared.tile_full[i].init(1);
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
      index = __shfl_sync(kWholeWarp, next, 0);
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
      if (lane == 0) shared.tile_full[tiles.stage].arrive();
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
        __ballot_sync(kWholeWarp, exists && key + kGroupKeys > item.tile.length) & 0xffff;
    piece.group = key / kGroupKeys & (kGroupsOfPage - 1);
    // Aligned powers of two of groups that follow each other in a page go in one copy.
    const int before = __shfl_up_sync(kWholeWarp, key, 1);
    const unsigned begins = __ballot_sync(
        kWholeWarp, lane % kGroups == 0 || piece.group == 0 || key != before + kGroupKeys);
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
      // Keys run one tile ahead of values, and tiles are looked at one ahead of keys.
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
          keys.advance();
          next = next_piece();
        }
        if (has_before) {
          shared.values_free[values.stage].wait(values.parity ^ 1);
          if ((before.flags & kTileHasColumns) == 0) {
            Barrier& full = shared.values_full[values.stage];
            const bool is_last = before.ends_here != 0;
            copy_tile(shared.values[values.stage], maps, is_last ? shared.last_values : full,
                      before, value_group);
            if (is_last) {
              shared.last_values.wait(last_parity);
              last_parity ^= 1;
              clear_rows(shared.values[values.stage], shared.tiles[stage_before], before.ends_here,
                         item.tile.length);
              if (lane == 0) full.arrive();
            }
          }
          values.advance();
          if (lane == 0) shared.tile_free[stage_before].arrive();
        }
        before = piece;
        stage_before = stage;
        if (!is_end) continue;
        if (lane == 0) shared.tile_free[stage].arrive();
        break;
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

  static __device__ __forceinline__ void gather(TileMemory to, uint32_t (&rows)[kKeyTile],
                                                const PlanTile<kKeyTile>& tile, const Item& item,
                                                const Params& params, int which) {
    constexpr int kVectors = C::kHeadDim * static_cast<int>(sizeof(T)) / 16;
    constexpr int kStep = 32 / kVectors;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32_t* table = params.page_tables + item.tile.first_page;
#pragma unroll
    for (int i = 0; i < kKeyTile / 32; ++i) {
      const int key = tile.columns[i * 32 + lane];
      rows[i * 32 + lane] = key < 0 ? ~0u : table[key / kPageRows] * kPageRows + key % kPageRows;
    }
    __syncwarp();
    const int kv_head = item.head / (params.shape.q_heads / params.shape.kv_heads);
    const int vector = lane % kVectors;
    const std::byte* base = params.pages + vector * 16 +
                            int64_t{kv_head * 2 + which} * kPageRows * C::kHeadDim * sizeof(T);
    const uint32_t panel = shared_address(to) + vector / 8 * (kGroupKeys * 128);
#pragma unroll 8
    for (int row = lane / kVectors; row < kKeyTile; row += kStep) {
      const uint32_t at = rows[row];
      const bool valid = at != ~0u;
      const std::byte* from =
          base + (valid ? int64_t{at / kPageRows} * params.page_bytes +
                              at % kPageRows * static_cast<int>(C::kHeadDim * sizeof(T))
                        : 0);
      copy_async_or_zero(
          panel + row / 8 * kGroupBytes + row % 8 * 128 + (vector % 8 ^ row % 8) * 16, from, valid);
    }
    wait_for_vectors();
    fence_async_shared();
    __syncwarp();
  }

  static __device__ __forceinline__ void load_and_gather(Shared<C>& shared, const Params& params,
                                                         int which) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    auto& full = which == 0 ? shared.keys_full : shared.values_full;
    auto& free = which == 0 ? shared.keys_free : shared.values_free;
    auto& memory = which == 0 ? shared.keys : shared.values;
    Ring<C::kStages> stages;
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
        if (!is_end) {
          // Everybody waits for every round, as parities tell only neighbours apart.
          free[stages.stage].wait(stages.parity ^ 1);
          if (has_columns) {
            gather(memory[stages.stage], shared.gathered_rows[which], tile, item, params, which);
            if (lane == 0) full[stages.stage].arrive();
          }
          stages.advance();
        }
        __syncwarp();
        if (lane == 0) shared.tile_free[tiles.stage].arrive();
      }
    }
  }

  // --- two warpgroups: 64 rows each

  // S = Q K'; of a whole tile or of half of one.
  template <int kScores>
  static __device__ __forceinline__ void multiply_keys(float (&scores)[kScores], const T* queries,
                                                       const void* keys) {
    constexpr int kSteps = kPanelColumns / 16;
    const Descriptor a = along_rows(queries), b = along_rows(keys, kGroupBytes);
#pragma unroll
    for (int i = 0; i < C::kHeadDim / 16; ++i) {
      const int columns = i % kSteps * 32 / 16;
      const int a_offset = i / kSteps * (kRows * 128 / 16) + columns;
      const int b_offset = i / kSteps * (kGroupKeys * 128 / 16) + columns;
      if (i == 0)
        multiply_rows<T, false>(scores, a, b);
      else
        multiply_rows<T, true>(scores, a + a_offset, b + b_offset);
    }
  }

  // O += P V.
  template <int kWords>
  static __device__ __forceinline__ void multiply_values(float (&sums)[C::kHeadDim / 2],
                                                         const uint32_t (&weights)[kWords],
                                                         const void* values) {
    const Descriptor b = across_rows(values, kGroupKeys * 128, kGroupBytes);
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i)
      multiply_columns<T>(sums, weights + 4 * i, b + i * (2 * kGroupBytes / 16));
  }

  // `position` of the thread's first row; its other row is 8 further. The scores are those of the
  // groups from `first_group` on.
  template <int kScores>
  static __device__ __forceinline__ void mask(float (&scores)[kScores],
                                              const PlanTile<kKeyTile>& tile, int part,
                                              int first_group, int position, int lane) {
    const uint32_t flags = tile.flags >> part;
    if ((flags & kTileHasGaps) != 0) {
      const uint32_t valid = tile.valid[part][lane % 4] >> 2 * first_group;
#pragma unroll
      for (int i = 0; i < kScores; ++i)
        if ((valid >> (i / 4 * 2 + i % 2) & 1) == 0) scores[i] = -INFINITY;
    }
    if ((flags & kTileHasBounds) == 0) return;
    const bool has_columns = (tile.flags & kTileHasColumns) != 0;
    const auto reach = static_cast<uint32_t>(tile.offset_end - tile.offset_begin);
    const int column = lane % 4 * 2, from = position - tile.offset_begin;
#pragma unroll
    for (int i = 0; i < kScores / 4; ++i) {
      const int group = first_group + i;
      int2 keys;
      if (has_columns)
        keys = *reinterpret_cast<const int2*>(&tile.columns[group * kGroupKeys + column]);
      else
        keys.x = tile.groups[group] + column, keys.y = keys.x + 1;
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        if (static_cast<uint32_t>(from + row * 8 - keys.x) >= reach)
          scores[4 * i + 2 * row] = -INFINITY;
        if (static_cast<uint32_t>(from + row * 8 - keys.y) >= reach)
          scores[4 * i + 2 * row + 1] = -INFINITY;
      }
    }
  }

  // A split tile. The other warpgroup's products fall into this one's softmax by themselves.
  static __device__ __forceinline__ void attend_to_half(
      Shared<C>& shared, const T* queries, int keys_stage, uint32_t keys_parity, int values_stage,
      uint32_t values_parity, int tile_stage, float scale_log2, int group, int position,
      float (&sums)[C::kHeadDim / 2], SoftmaxRows& rows) {
    constexpr int kHalf = kGroups / 2;
    const int lane = threadIdx.x % 32;
    float scores[kKeyTile / 4], correction[2];
    uint32_t weights[kKeyTile / 8];
    shared.keys_full[keys_stage].wait(keys_parity);
    pin(scores);
    begin_products();
    multiply_keys(scores, queries, shared.keys[keys_stage][group * kHalf]);
    commit_products();
    wait_for_products<0>();
    pin(scores);
    if (lane == 0) shared.keys_free[keys_stage].arrive();
    mask(scores, shared.tiles[tile_stage], group, group * kHalf, position, lane);
    rows.add(scores, scale_log2, correction);
    if (lane == 0) shared.tile_free[tile_stage].arrive();
    if (__any_sync(kWholeWarp, correction[0] != 1 || correction[1] != 1))
      scale_rows(sums, correction);
    pack_weights<T>(weights, scores);
    shared.values_full[values_stage].wait(values_parity);
    pin(sums);
    pin(weights);
    begin_products();
    multiply_values(sums, weights, shared.values[values_stage][group * kHalf]);
    commit_products();
    wait_for_products<0>();
    pin(sums);
    if (lane == 0) shared.values_free[values_stage].arrive();
  }

  static __device__ __forceinline__ void attend(Shared<C>& shared, const Params& params,
                                                int group) {
    const int lane = threadIdx.x % 32;
    const int first_row = group * 64 + __shfl_sync(kWholeWarp, threadIdx.x / 32 % 4, 0) * 16;
    // Named barrier 1 + g: group g may issue products.
    const int my_turn = 1 + group, next_turn = 2 - group;
    if (group == 1) named_barrier_arrive(next_turn, 256);

    Ring<C::kStages> keys, values;
    Ring<kTiles> tiles;
    Ring<kItems> items;
    for (Ring<kQueryStages> queries;; queries.advance()) {
      const Item item = next_item(shared, items);
      if (item.tile.rows == 0) return;
      const int position = item.tile.first_position + first_row + lane / 4;
      float scores[kKeyTile / 2], sums[C::kHeadDim / 2], correction[2];
      uint32_t weights[kKeyTile / 4];
      SoftmaxRows rows;
#pragma unroll
      for (float& sum : sums) sum = 0;

      shared.queries_full[queries.stage].wait(queries.parity);
      constexpr uint32_t kGoesOn = kTileIsEnd | kTileIsSplit;
      uint32_t flags = 0;
      for (int i = 0; (flags & kGoesOn) == 0; ++i) {
        shared.keys_full[keys.stage].wait(keys.parity);
        named_barrier_sync(my_turn, 256);
        pin(scores);
        begin_products();
        multiply_keys(scores, shared.queries[queries.stage][0][group * 64],
                      shared.keys[keys.stage]);
        commit_products();
        if (i > 0) {
          shared.values_full[values.stage].wait(values.parity);
          pin(sums);
          pin(weights);
          begin_products();
          multiply_values(sums, weights, shared.values[values.stage]);
          commit_products();
          named_barrier_arrive(next_turn, 256);
          wait_for_products<1>();  // for the scores
        } else {
          named_barrier_arrive(next_turn, 256);
          wait_for_products<0>();
        }
        pin(scores);
        if (lane == 0) shared.keys_free[keys.stage].arrive();
        keys.advance();
        mask(scores, shared.tiles[tiles.stage], group, 0, position, lane);
        rows.add(scores, params.scale_log2, correction);
        if (lane == 0) shared.tile_free[tiles.stage].arrive();
        tiles.advance();
        // As a branch this also keeps the wait behind the softmax: the assembler moves waits up as
        // far as nothing that it knows of stands in the way.
        if (i > 0) {
          wait_for_products<0>();
          pin(sums);
          if (lane == 0) shared.values_free[values.stage].arrive();
          values.advance();
          // Maxima seldom rise once some tiles have been seen; multiplying by 1 changes nothing.
          if (__any_sync(kWholeWarp, correction[0] != 1 || correction[1] != 1))
            scale_rows(sums, correction);
        }
        pack_weights<T>(weights, scores);
        shared.tile_full[tiles.stage].wait(tiles.parity);
        flags = shared.tiles[tiles.stage].flags;
      }
      shared.values_full[values.stage].wait(values.parity);
      pin(sums);
      pin(weights);
      begin_products();
      multiply_values(sums, weights, shared.values[values.stage]);
      commit_products();
      wait_for_products<0>();
      pin(sums);
      if (lane == 0) shared.values_free[values.stage].arrive();
      values.advance();

      for (; (flags & kTileIsEnd) == 0; flags = shared.tiles[tiles.stage].flags) {
        attend_to_half(shared, shared.queries[queries.stage][0][group * 64], keys.stage,
                       keys.parity, values.stage, values.parity, tiles.stage, params.scale_log2,
                       group, position, sums, rows);
        keys.advance();
        values.advance();
        tiles.advance();
        shared.tile_full[tiles.stage].wait(tiles.parity);
      }
      __syncwarp();
      if (lane == 0) {
        shared.tile_free[tiles.stage].arrive();
        shared.queries_free[queries.stage].arrive();
      }
      tiles.advance();
      rows.finish();
      write(params, item, first_row, lane, sums, rows);
    }
  }

  static __device__ __forceinline__ void write(const Params& params, const Item& item,
                                               int first_row, int lane,
                                               const float (&sums)[C::kHeadDim / 2],
                                               const SoftmaxRows& rows) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + lane / 4 + half * 8;
      const int64_t q_row = item.tile.first_row + row;
      const bool valid = row < item.tile.rows;
      const float sum = rows.sum[half], factor = sum > 0 ? reciprocal(sum) : 0.0f;
      T* out =
          static_cast<T*>(params.out) + q_row * params.out_row_stride + item.head * C::kHeadDim;
#pragma unroll
      for (int block = 0; block < C::kHeadDim / 32; ++block) {
        uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int first = (block * 4 + i) * 4 + half * 2;
          words[i] = pack_pair<T>(sums[first] * factor, sums[first + 1] * factor);
        }
        transpose_among_four(words, lane);
        if (valid)
          *reinterpret_cast<uint4*>(out + (block * 4 + lane % 4) * 8) =
              make_uint4(words[0], words[1], words[2], words[3]);
      }
      if (valid && params.lse && lane % 4 == 0)
        params.lse[q_row * params.shape.q_heads + item.head] =
            sum > 0 ? rows.maximum[half] * kLn2 + logf(sum) : -INFINITY;
    }
  }
};

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    attend_to_plans(const __grid_constant__ Maps maps, const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<C>*>(memory);
  const int warp = __shfl_sync(kWholeWarp, threadIdx.x / 32, 0);
  if (threadIdx.x == 0) {
    for (const CUtensorMap& map : maps.of_groups) prefetch_tensor_map(map);
    Kernel<C>::init_barriers(shared);
  }
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  if (warp < 4) {
    shrink_registers<C::kProducerRegisters>();
    if (warp == 0)
      Kernel<C>::copy_keys_and_values(shared, maps, params);
    else if (warp == 1)
      Kernel<C>::describe_tiles(shared, params);
    else
      Kernel<C>::load_and_gather(shared, params, warp - 2);
  } else {
    grow_registers<C::kConsumerRegisters>();
    Kernel<C>::attend(shared, params, warp / 4 - 1);
  }
}

// The pool as [pages][groups of 8 rows of all heads' K and V][panels][8 rows][64 columns].
CUtensorMap map_of(const PagePool& pages, int page_count, int groups) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    KVASIR_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                 cudaEnableDefault, &found));
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  const cuuint64_t row_bytes = pages.head_dim * dtype_bytes(pages.dtype);
  const auto panels = static_cast<cuuint32_t>(pages.head_dim / kPanelColumns);
  const cuuint64_t sizes[5] = {kPanelColumns, kGroupKeys, panels,
                               static_cast<cuuint64_t>(pages.kv_heads) * 2 * kGroupsOfPage,
                               static_cast<cuuint64_t>(page_count)};
  const cuuint64_t strides[4] = {row_bytes, 128, row_bytes * kGroupKeys,
                                 static_cast<cuuint64_t>(pages.page_bytes)};
  const cuuint32_t box[5] = {kPanelColumns, kGroupKeys, panels, static_cast<cuuint32_t>(groups), 1};
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map,
             pages.dtype == DType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                         : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
             5, pages.base, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  KVASIR_CUDA(status == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue);
  return map;
}

Shape shape_of_args(const CudaAttentionArgs& args) {
  return plans::shape_of(args.q_heads, args.pages.kv_heads, args.span_count, args.max_rows);
}

int window_of(const CudaAttentionArgs& args) {
  return args.window > 0 && args.window < kNoBound ? static_cast<int>(args.window) : kNoBound;
}

template <class C>
void run_config(const cuda::Context& context, const CudaAttentionArgs& args, std::byte* workspace) {
  constexpr double kLog2e = 1.4426950408889634;
  // A tensor has at least one page, though nobody looks at it.
  const int page_count = static_cast<int>(std::max<int64_t>(args.page_count, 1));
  PagePool pages = args.pages;
  if (args.page_count == 0) pages.base = args.workspace;
  const Shape shape = shape_of_args(args);
  const Params params{.q = args.q,
                      .q_row_stride = args.q_row_stride,
                      .out = args.out,
                      .out_row_stride = args.out_row_stride,
                      .lse = args.lse,
                      .page_tables = args.page_tables,
                      .pages = pages.base,
                      .page_bytes = pages.page_bytes,
                      .plans = args.plans,
                      .scored_pairs = reinterpret_cast<unsigned long long*>(args.scored_pairs),
                      .window = window_of(args),
                      .page_count = page_count,
                      .scale_log2 = static_cast<float>(args.scale * kLog2e),
                      .shape = shape,
                      .work = work_at(workspace, shape)};
  Maps maps;
  for (int i = 0; i < kPieceSizes; ++i) maps.of_groups[i] = map_of(pages, page_count, 1 << i);
  constexpr int kSharedBytes = sizeof(Shared<C>);
  static const bool raised = [] {
    KVASIR_CUDA(cudaFuncSetAttribute(attend_to_plans<C>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    return true;
  }();
  static_cast<void>(raised);
  launch(context, attend_to_plans<C>, static_cast<unsigned>(context.multiprocessors), C::kThreads,
         kSharedBytes, maps, params);
}

}  // namespace

size_t workspace_bytes(const AttentionDesc& desc, int max_spans, int64_t max_rows) {
  size_t bytes = 0;
  work_at(nullptr, shape_of(desc.q_heads, desc.kv_heads, max_spans, max_rows), &bytes);
  return bytes;
}

void build_tiles(const cuda::Context& context, const CudaAttentionArgs& args,
                 std::byte* workspace) {
  launch(context, list_tiles, 1, kListThreads, 0, args.spans, args.span_count,
         work_at(workspace, shape_of_args(args)));
}

void build_items(const cuda::Context& context, const CudaAttentionArgs& args,
                 std::byte* workspace) {
  const Shape shape = shape_of_args(args);
  const Work work = work_at(workspace, shape);
  const auto blocks = static_cast<unsigned>(shape.blocks());
  launch(context, classify_items, blocks, kClassifyThreads, 0, args.plans, window_of(args), shape,
         work);
  launch(context, order_items, blocks, kListThreads, 0, shape, work);
}

void run(const cuda::Context& context, const CudaAttentionArgs& args, std::byte* workspace) {
  with_type(args.pages.dtype, [&]<class T>(T) {
    if constexpr (!std::is_same_v<T, float>) {
      if (args.pages.head_dim == 128)
        run_config<Config<T, 128>>(context, args, workspace);
      else
        run_config<Config<T, 64>>(context, args, workspace);
    }
  });
}

}  // namespace kvasir::kernels::sm90::plans

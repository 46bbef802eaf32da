// Prefill attention on Hopper: the matrix units work on one warpgroup's products while the other
// warpgroups do their softmax. The structure is that of FlashAttention-3 (Shah et al. 2024,
// sections 3.1 and 3.2).
//
// A block stays on its multiprocessor and takes item after item (prefill_attention_sm90_work.cuh).
// Its first warpgroup has four single jobs: to take items, to have keys and values copied from
// their pages into rings of kStages tiles (TMA), and to load queries (two warps). Every other
// warpgroup owns 64 rows of the row tile. For key tile j it issues S = Q K(j + 1)' and
// O += P(j) V(j), and does the softmax of S while the latter runs; the warpgroups pass the right to
// issue around, so that their softmaxes fall into each other's products.
//
// A row's result does not depend on the rows beside it: its key tiles come in ascending order, and
// a tile that is masked altogether adds zeros and multiplies by one.

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <type_traits>

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/prefill_attention_sm90_plans.h"
#include "kernels/paged_attention/prefill_attention_sm90_softmax.cuh"
#include "kernels/paged_attention/prefill_attention_sm90_work.cuh"
#include "kernels/paged_attention/prefill_attention_table.h"
#include "kernels/paged_attention/sm90_async.cuh"
#include "kernels/paged_attention/sm90_tensor_map.h"
#include "kernels/paged_attention/sm90_wgmma.cuh"

namespace kvasir::kernels {
namespace sm90::prefill {
namespace {

// head_dim 128 leaves registers for two warpgroups that multiply, 64 for three.
template <class Element, int kHeadDimension>
struct Config {
  using T = Element;
  static constexpr int kHeadDim = kHeadDimension;
  static constexpr int kGroups = kHeadDim == 128 ? 2 : 3;  // warpgroups with rows
  static constexpr int kStages = kHeadDim == 128 ? 2 : 4;
  static constexpr int kRows = kGroups * 64;
  static constexpr int kPanels = kHeadDim / 64;  // of 64 columns, 128 bytes
  static constexpr int kThreads = (kGroups + 1) * 128;
  static constexpr int kConsumerWarps = kGroups * 4;
  static constexpr int kProducerRegisters = kGroups == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = kGroups == 2 ? 232 : 160;
};

constexpr int kPageRows = static_cast<int>(kPageTokens);
constexpr int kPanelColumns = 64;
constexpr int kQueryThreads = 64;  // that load queries
constexpr int kQueryStages = 2;    // row tiles of queries
constexpr int kItems = 4;          // known ahead, so that short ones are loaded in time

template <class C>
struct Shared {
  using T = typename C::T;
  T queries[kQueryStages][C::kPanels][C::kRows][kPanelColumns];
  T keys[C::kStages][C::kPanels][kKeyTile][kPanelColumns];
  T values[C::kStages][C::kPanels][kKeyTile][kPanelColumns];
  Barrier keys_full[C::kStages], keys_free[C::kStages];
  Barrier values_full[C::kStages], values_free[C::kStages];
  Barrier last_values;  // copied, but not yet cleared behind the sequence's end
  Barrier queries_full[kQueryStages], queries_free[kQueryStages];
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
  int q_heads, kv_heads;
  int window;  // INT_MAX = unlimited
  int page_count;
  float scale_log2;  // scale * log2(e)
  WorkShape shape;
  Work work;
};

template <class C>
struct Kernel {
  using T = typename C::T;
  static constexpr int kTileBytes = C::kPanels * kKeyTile * kPanelColumns * sizeof(T);

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
    for (int i = 0; i < kItems; ++i) {
      shared.item_full[i].init(1);
      shared.item_free[i].init(C::kThreads - 32);  // all but the warp that takes items
    }
    fence_barrier_init();
  }

  // All threads but those of the warp that takes items read each of them once.
  static __device__ __forceinline__ Item next_item(Shared<C>& shared, Ring<kItems>& items) {
    shared.item_full[items.stage].wait(items.parity);
    const Item item = shared.items[items.stage];
    shared.item_free[items.stage].arrive();
    items.advance();
    return item;
  }

  // One thread. The last block to find nothing leaves the counters as it found them, for the next
  // run over the same list.
  static __device__ __forceinline__ void take_items(Shared<C>& shared, const Params& params) {
    const int blocks = static_cast<int>(gridDim.x);
    ItemFinder finder(params.work, params.q_heads, params.kv_heads, params.shape.pack);
    int index = static_cast<int>(blockIdx.x);
    for (Ring<kItems> items;; items.advance()) {
      const int next = blocks + atomicAdd(&params.work.header->next, 1);
      const Item item = finder.find(index);
      shared.item_free[items.stage].wait(items.parity ^ 1);
      shared.items[items.stage] = item;
      shared.item_full[items.stage].arrive();
      if (item.tile.rows == 0) break;
      index = next;
    }
    __threadfence();
    if (atomicAdd(&params.work.header->done, 1) + 1 < blocks) return;
    params.work.header->next = 0;
    params.work.header->done = 0;
  }

  static __device__ __forceinline__ KeyTiles key_tiles(const Item& item, const Params& params) {
    return KeyTiles(item.tile.first_position, item.tile.rows, params.window);
  }

  // A tile of keys or values from its pages. Pages behind the sequence's end are zeros.
  static __device__ __forceinline__ void copy_tile(T (*to)[kKeyTile][kPanelColumns],
                                                   const CUtensorMap& pool, Barrier& barrier,
                                                   const int (&pages)[kPagesPerTile], int row) {
    barrier.arrive_and_expect(kTileBytes);
#pragma unroll
    for (int page = 0; page < kPagesPerTile; ++page)
#pragma unroll
      for (int panel = 0; panel < C::kPanels; ++panel)
        copy_box(to[panel][page * kPageRows], pool, barrier, panel * kPanelColumns, row,
                 pages[page]);
  }

  static __device__ __forceinline__ void find_pages(int (&pages)[kPagesPerTile], int tile,
                                                    const Item& item, const Params& params) {
#pragma unroll
    for (int i = 0; i < kPagesPerTile; ++i) {
      const int page = tile * kPagesPerTile + i;
      pages[i] = page * kPageRows < item.tile.length
                     ? static_cast<int>(params.page_tables[int64_t{item.tile.first_page} + page])
                     : params.page_count;
    }
  }

  // Rows of a page behind the sequence's end may hold anything, and a weight of zero does not
  // clear a NaN.
  static __device__ __forceinline__ void clear_rows(T (*tile)[kKeyTile][kPanelColumns], int first,
                                                    int lane) {
    constexpr int kVectors = kPanelColumns * sizeof(T) / 16;  // of a row
#pragma unroll
    for (int panel = 0; panel < C::kPanels; ++panel) {
      auto* vectors = reinterpret_cast<uint4*>(tile[panel][0]);
      for (int i = first * kVectors + lane; i < kKeyTile * kVectors; i += 32)
        vectors[i] = make_uint4(0, 0, 0, 0);
    }
    fence_async_shared();
    __syncwarp();
  }

  // One warp.
  static __device__ __forceinline__ void copy_keys_and_values(Shared<C>& shared,
                                                              const CUtensorMap& pool,
                                                              const Params& params) {
    const int lane = threadIdx.x % 32;
    Ring<C::kStages> keys, values;
    Ring<kItems> items;
    uint32_t last_parity = 0;
    for (;;) {
      const Item item = next_item(shared, items);
      if (item.tile.rows == 0) return;
      const KeyTiles tiles = key_tiles(item, params);
      const int key_row = item.kv_head * 2 * kPageRows, value_row = key_row + kPageRows;
      int pages[kPagesPerTile], next_pages[kPagesPerTile];
      find_pages(next_pages, tiles[0], item, params);
      // Keys run one tile ahead of values.
      for (int i = 0; i <= tiles.count; ++i) {
        if (i < tiles.count) {
          shared.keys_free[keys.stage].wait(keys.parity ^ 1);
          if (lane == 0)
            copy_tile(shared.keys[keys.stage], pool, shared.keys_full[keys.stage], next_pages,
                      key_row);
          keys.advance();
        }
        if (i > 0) {
          const int rows = item.tile.length - tiles[i - 1] * kKeyTile;
          const bool is_last = rows < kKeyTile;
          Barrier& full = shared.values_full[values.stage];
          shared.values_free[values.stage].wait(values.parity ^ 1);
          if (lane == 0)
            copy_tile(shared.values[values.stage], pool, is_last ? shared.last_values : full, pages,
                      value_row);
          if (is_last) {
            shared.last_values.wait(last_parity);
            last_parity ^= 1;
            clear_rows(shared.values[values.stage], max(rows, 0), lane);
            if (lane == 0) full.arrive();
          }
          values.advance();
        }
#pragma unroll
        for (int k = 0; k < kPagesPerTile; ++k) pages[k] = next_pages[k];
        if (i + 1 < tiles.count) find_pages(next_pages, tiles[i + 1], item, params);
      }
    }
  }

  // kQueryThreads threads. What is no row of the item becomes zeros.
  static __device__ __forceinline__ void load_queries(Shared<C>& shared, const Params& params) {
    constexpr int kVectors = C::kHeadDim * sizeof(T) / 16;  // of a row
    constexpr int kStep = kQueryThreads / kVectors;
    const int thread = static_cast<int>(threadIdx.x) % kQueryThreads;
    const int vector = thread % kVectors, first = thread / kVectors;
    const int pack = params.shape.pack;
    Ring<kItems> items;
    for (Ring<kQueryStages> queries;; queries.advance()) {
      const Item item = next_item(shared, items);
      if (item.tile.rows == 0) return;
      shared.queries_free[queries.stage].wait(queries.parity ^ 1);
      const T* q = static_cast<const T*>(params.q) + item.tile.first_row * params.q_row_stride +
                   int64_t{item.first_head} * C::kHeadDim + vector * 8;
      const uint32_t panel = shared_address(shared.queries[queries.stage][vector / 8]);
      int query = first / pack, head = first % pack;
      for (int row = first; row < C::kRows; row += kStep) {
        const bool valid = query < item.tile.rows;
        const int64_t offset = valid ? query * params.q_row_stride + head * C::kHeadDim : 0;
        copy_async_or_zero(panel + row * 128 + (vector % 8 ^ row % 8) * 16, q + offset, valid);
        for (head += kStep; head >= pack; head -= pack) ++query;
      }
      wait_for_vectors();
      fence_async_shared();
      shared.queries_full[queries.stage].arrive();
    }
  }

  // S = Q K'.
  static __device__ __forceinline__ void multiply_keys(float (&scores)[kKeyTile / 2],
                                                       const T* queries, const T* keys) {
    constexpr int kSteps = kPanelColumns / 16;
    const Descriptor a = along_rows(queries), b = along_rows(keys);
#pragma unroll
    for (int i = 0; i < C::kHeadDim / 16; ++i) {
      const int columns = i % kSteps * 32 / 16;
      const int a_offset = i / kSteps * (C::kRows * 128 / 16) + columns;
      const int b_offset = i / kSteps * (kKeyTile * 128 / 16) + columns;
      if (i == 0)
        multiply_rows<T, false>(scores, a, b);
      else
        multiply_rows<T, true>(scores, a + a_offset, b + b_offset);
    }
  }

  // O += P V.
  static __device__ __forceinline__ void multiply_values(float (&sums)[C::kHeadDim / 2],
                                                         const uint32_t (&weights)[kKeyTile / 4],
                                                         const T* values) {
    const Descriptor b = across_rows(values, kKeyTile * 128);
#pragma unroll
    for (int i = 0; i < kKeyTile / 16; ++i)
      multiply_columns<T>(sums, weights + 4 * i, b + i * (16 * 128 / 16));
  }

  // The positions of a thread's two rows and the range of its warp's rows.
  struct Positions {
    int mine[2];
    int lowest, highest;
    int first_column;

    __device__ __forceinline__ Positions(const Item& item, int first_row, int lane, int pack) {
      const int row = first_row + lane / 4;
      mine[0] = item.tile.first_position + row / pack;
      mine[1] = item.tile.first_position + (row + 8) / pack;
      lowest = item.tile.first_position + first_row / pack;
      highest = item.tile.first_position + (first_row + 15) / pack;
      first_column = lane % 4 * 2;
    }

    __device__ __forceinline__ void mask(float (&scores)[kKeyTile / 2], int tile,
                                         int window) const {
      const int first_key = tile * kKeyTile;
      if (first_key + kKeyTile - 1 <= lowest && first_key > highest - window) return;
      int first[2], last[2];
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        last[row] = mine[row] - first_key - first_column;
        first[row] = mine[row] - window + 1 - first_key - first_column;
      }
      mask_scores(scores, first, last);
    }
  };

  // A warpgroup with 64 rows: number `group` of C::kGroups.
  static __device__ __forceinline__ void attend(Shared<C>& shared, const Params& params,
                                                int group) {
    const int lane = threadIdx.x % 32;
    const int first_row = group * 64 + __shfl_sync(kWholeWarp, threadIdx.x / 32 % 4, 0) * 16;
    // Named barrier 1 + g: group g may issue products.
    const int my_turn = 1 + group, next_turn = 1 + (group + 1) % C::kGroups;
    if (group == C::kGroups - 1) named_barrier_arrive(next_turn, 256);

    Ring<C::kStages> keys, values;
    Ring<kItems> items;
    for (Ring<kQueryStages> queries;; queries.advance()) {
      const Item item = next_item(shared, items);
      if (item.tile.rows == 0) return;
      const KeyTiles tiles = key_tiles(item, params);
      const Positions positions(item, first_row, lane, params.shape.pack);
      float scores[kKeyTile / 2], sums[C::kHeadDim / 2], correction[2];
      uint32_t weights[kKeyTile / 4];
      SoftmaxRows rows;
#pragma unroll
      for (float& sum : sums) sum = 0;

      shared.queries_full[queries.stage].wait(queries.parity);
      for (int i = 0; i < tiles.count; ++i) {
        shared.keys_full[keys.stage].wait(keys.parity);
        named_barrier_sync(my_turn, 256);
        pin(scores);
        begin_products();
        multiply_keys(scores, shared.queries[queries.stage][0][group * 64],
                      shared.keys[keys.stage][0][0]);
        commit_products();
        if (i > 0) {
          shared.values_full[values.stage].wait(values.parity);
          pin(sums);
          pin(weights);
          begin_products();
          multiply_values(sums, weights, shared.values[values.stage][0][0]);
          commit_products();
          named_barrier_arrive(next_turn, 256);
          wait_for_products<1>();  // for the scores
        } else {
          named_barrier_arrive(next_turn, 256);
          wait_for_products<0>();
        }
        pin(scores);
        if (lane == 0) {
          shared.keys_free[keys.stage].arrive();
          if (i + 1 == tiles.count) shared.queries_free[queries.stage].arrive();
        }
        keys.advance();
        positions.mask(scores, tiles[i], params.window);
        rows.add(scores, params.scale_log2, correction);
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
      }
      shared.values_full[values.stage].wait(values.parity);
      pin(sums);
      pin(weights);
      begin_products();
      multiply_values(sums, weights, shared.values[values.stage][0][0]);
      commit_products();
      wait_for_products<0>();
      pin(sums);
      if (lane == 0) shared.values_free[values.stage].arrive();
      values.advance();
      rows.finish();
      write(params, item, first_row, lane, sums, rows);
    }
  }

  static __device__ __forceinline__ void write(const Params& params, const Item& item,
                                               int first_row, int lane,
                                               const float (&sums)[C::kHeadDim / 2],
                                               const SoftmaxRows& rows) {
    const int pack = params.shape.pack;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + lane / 4 + half * 8, query = row / pack;
      const int64_t q_row = item.tile.first_row + query;
      const int head = item.first_head + row % pack;
      const bool valid = query < item.tile.rows;
      T* out = static_cast<T*>(params.out) + q_row * params.out_row_stride + head * C::kHeadDim;
      float* lse = params.lse ? params.lse + q_row * params.q_heads + head : nullptr;
      write_row<T>(sums, rows, half, lane, valid, out, lse);
    }
  }
};

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    prefill_attention(const __grid_constant__ CUtensorMap pool,
                      const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<C>*>(memory);
  const int warp = __shfl_sync(kWholeWarp, threadIdx.x / 32, 0);
  if (threadIdx.x == 0) {
    prefetch_tensor_map(pool);
    Kernel<C>::init_barriers(shared);
  }
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  if (warp < 4) {
    shrink_registers<C::kProducerRegisters>();
    if (warp == 0)
      Kernel<C>::copy_keys_and_values(shared, pool, params);
    else if (warp > 1)
      Kernel<C>::load_queries(shared, params);
    else if (threadIdx.x % 32 == 0)
      Kernel<C>::take_items(shared, params);
  } else {
    grow_registers<C::kConsumerRegisters>();
    Kernel<C>::attend(shared, params, warp / 4 - 1);
  }
}

// The pool as [pages][rows of all heads' K and V][head_dim], cut into boxes of one page's K or V of
// one head and 64 columns.
CUtensorMap tensor_map_of(const PagePool& pages, int page_count) {
  const cuuint64_t row_bytes = pages.head_dim * dtype_bytes(pages.dtype);
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(pages.head_dim),
                               static_cast<cuuint64_t>(pages.kv_heads) * 2 * kPageRows,
                               static_cast<cuuint64_t>(page_count)};
  const cuuint64_t strides[2] = {row_bytes, static_cast<cuuint64_t>(pages.page_bytes)};
  const cuuint32_t box[3] = {kPanelColumns, kPageRows, 1};
  return tensor_map<3>(pages, sizes, strides, box);
}

constexpr int kMostStackedHeads = 16;

int tile_rows(int head_dim) {
  return head_dim == 128 ? Config<bfloat16, 128>::kRows : Config<bfloat16, 64>::kRows;
}

WorkShape shape_of(int q_heads, int kv_heads, int head_dim) {
  return work_shape(q_heads, kv_heads, tile_rows(head_dim), kMostStackedHeads);
}
WorkShape shape_of(const CudaAttentionArgs& args) {
  return shape_of(args.q_heads, args.pages.kv_heads, args.pages.head_dim);
}

int window_of(const CudaAttentionArgs& args) {
  return args.window > 0 && args.window < INT_MAX ? static_cast<int>(args.window) : INT_MAX;
}

bool supports(const AttentionDesc& desc, int compute_capability) {
  return compute_capability == 90 && desc.dtype != DType::kF32 &&
         (desc.head_dim == 64 || desc.head_dim == 128);
}

// What spans with plans work in lies behind.
size_t dense_bytes(const AttentionDesc& desc, int max_spans, int64_t max_rows) {
  const size_t bytes =
      work_bytes(shape_of(desc.q_heads, desc.kv_heads, desc.head_dim), max_spans, max_rows);
  return (bytes + 255) / 256 * 256;
}

size_t workspace_bytes(const AttentionDesc& desc, const cuda::Context&, int max_spans,
                       int64_t max_rows, bool has_plans) {
  return dense_bytes(desc, max_spans, max_rows) +
         (has_plans ? plans::workspace_bytes(desc, max_spans, max_rows) : 0);
}

std::byte* plan_workspace(const CudaAttentionArgs& args) {
  const AttentionDesc desc{.dtype = args.pages.dtype,
                           .q_heads = args.q_heads,
                           .kv_heads = args.pages.kv_heads,
                           .head_dim = args.pages.head_dim};
  return args.workspace + dense_bytes(desc, args.span_count, args.max_rows);
}

void build(const cuda::Context& context, const CudaAttentionArgs& args) {
  launch(context, list_row_tiles, static_cast<unsigned>(args.span_count), kListThreads, 0,
         args.spans, args.span_count, args.plan_count > 0, shape_of(args).rows_per_tile,
         window_of(args), work_at(args.workspace));
  if (args.plan_count > 0) plans::build_tiles(context, args, plan_workspace(args));
}

void build_plans(const cuda::Context& context, const CudaAttentionArgs& args) {
  plans::build_items(context, args, plan_workspace(args));
}

template <class C>
void run_config(const cuda::Context& context, const CudaAttentionArgs& args,
                const WorkShape& shape) {
  constexpr double kLog2e = 1.4426950408889634;
  // A tensor has at least one page, though nobody looks at it.
  const int page_count = static_cast<int>(std::max<int64_t>(args.page_count, 1));
  PagePool pages = args.pages;
  if (args.page_count == 0) pages.base = args.workspace;
  const Params params{.q = args.q,
                      .q_row_stride = args.q_row_stride,
                      .out = args.out,
                      .out_row_stride = args.out_row_stride,
                      .lse = args.lse,
                      .page_tables = args.page_tables,
                      .q_heads = args.q_heads,
                      .kv_heads = args.pages.kv_heads,
                      .window = window_of(args),
                      .page_count = page_count,
                      .scale_log2 = static_cast<float>(args.scale * kLog2e),
                      .shape = shape,
                      .work = work_at(args.workspace)};
  constexpr int kSharedBytes = sizeof(Shared<C>);
  static const bool raised = [] {
    KVASIR_CUDA(cudaFuncSetAttribute(prefill_attention<C>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    return true;
  }();
  static_cast<void>(raised);
  launch(context, prefill_attention<C>, static_cast<unsigned>(context.multiprocessors), C::kThreads,
         kSharedBytes, tensor_map_of(pages, page_count), params);
}

void run(const cuda::Context& context, const CudaAttentionArgs& args) {
  const WorkShape shape = shape_of(args);
  with_type(args.pages.dtype, [&]<class T>(T) {
    if constexpr (!std::is_same_v<T, float>) {
      if (args.pages.head_dim == 128)
        run_config<Config<T, 128>>(context, args, shape);
      else
        run_config<Config<T, 64>>(context, args, shape);
    }
  });
  if (args.plan_count > 0) plans::run(context, args, plan_workspace(args));
}

uint64_t pairs(const AttentionDesc& desc, int64_t query_offset, int64_t rows, int64_t window) {
  const int step = shape_of(desc.q_heads, desc.kv_heads, desc.head_dim).rows_per_tile;
  uint64_t pairs = 0;
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t here = std::min<int64_t>(step, rows - row);
    const KeyTiles tiles(query_offset + row, here, window > 0 ? window : INT_MAX);
    pairs += static_cast<uint64_t>(here) * tiles.count * kKeyTile;
  }
  return pairs;
}

}  // namespace
}  // namespace sm90::prefill

extern const PrefillImplementation kPrefillAttentionSm90 = {
    .name = "prefill_attention_sm90",
    .priority = 90,
    .supports = sm90::prefill::supports,
    .workspace_bytes = sm90::prefill::workspace_bytes,
    .build = sm90::prefill::build,
    .build_plans = sm90::prefill::build_plans,
    .run = sm90::prefill::run,
    .pairs = sm90::prefill::pairs};

}  // namespace kvasir::kernels

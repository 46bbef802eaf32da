// Attention plans (attention_plan.h) on Hopper. The structure is that of prefill_attention_sm90.cu:
// persistent blocks whose second and third warpgroup own 64 rows each of an item's 128 and take
// turns with the matrix units. What differs is where key tiles come from
// (prefill_attention_plan_sm90_producer.cuh).

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/paged_attention/prefill_attention_plan_sm90_producer.cuh"
#include "kernels/paged_attention/prefill_attention_sm90_plans.h"
#include "kernels/paged_attention/prefill_attention_sm90_softmax.cuh"
#include "kernels/paged_attention/sm90_tensor_map.h"
#include "kernels/paged_attention/sm90_wgmma.cuh"

namespace kvasir::kernels::sm90::plans {
namespace {

using namespace prefill;

// A warpgroup with 64 rows.
template <class C>
struct Consumer {
  using T = typename C::T;
  static constexpr int kGroupBytes = Producer<C>::kGroupBytes;

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
                                              const PlanTile<kKeyTile>& tile, uint32_t flags,
                                              int part, int first_group, int position, int lane) {
    if ((flags & kTileHasGaps << part) != 0) {
      const uint32_t valid = tile.valid[part][lane % 4] >> 2 * first_group;
#pragma unroll
      for (int i = 0; i < kScores; ++i)
        if ((valid >> (i / 4 * 2 + i % 2) & 1) == 0) scores[i] = -INFINITY;
    }
    if ((flags & kTileHasBounds << part) == 0) return;
    const bool has_columns = (flags & kTileHasColumns) != 0;
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

  // Looked at in the shadow of a product.
  static __device__ __forceinline__ uint32_t flags_of_next(Shared<C>& shared, Ring<kTiles>& tiles) {
    tiles.advance();
    shared.tile_full[tiles.stage].wait(tiles.parity);
    return shared.tiles[tiles.stage].flags;
  }

  // A split tile; returns the flags of the next. The other warpgroup's products fall into this
  // one's softmax by themselves.
  static __device__ __forceinline__ uint32_t
  attend_to_half(Shared<C>& shared, const T* queries, Ring<C::kStages>& keys,
                 Ring<C::kStages>& values, Ring<kTiles>& tiles, uint32_t flags, float scale_log2,
                 int group, int position, float (&sums)[C::kHeadDim / 2], SoftmaxRows& rows) {
    constexpr int kHalf = kGroups / 2;
    const int lane = threadIdx.x % 32, stage = tiles.stage;
    float scores[kKeyTile / 4], correction[2];
    uint32_t weights[kKeyTile / 8];
    shared.keys_full[keys.stage].wait(keys.parity);
    pin(scores);
    begin_products();
    multiply_keys(scores, queries, shared.keys[keys.stage][group * kHalf]);
    commit_products();
    const uint32_t next_flags = flags_of_next(shared, tiles);
    wait_for_products<0>();
    pin(scores);
    if (lane == 0) shared.keys_free[keys.stage].arrive();
    keys.advance();
    mask(scores, shared.tiles[stage], flags, group, group * kHalf, position, lane);
    rows.add(scores, scale_log2, correction);
    if (lane == 0) shared.tile_free[stage].arrive();
    if (__any_sync(kWholeWarp, correction[0] != 1 || correction[1] != 1))
      scale_rows(sums, correction);
    pack_weights<T>(weights, scores);
    shared.values_full[values.stage].wait(values.parity);
    pin(sums);
    pin(weights);
    begin_products();
    multiply_values(sums, weights, shared.values[values.stage][group * kHalf]);
    commit_products();
    wait_for_products<0>();
    pin(sums);
    if (lane == 0) shared.values_free[values.stage].arrive();
    values.advance();
    return next_flags;
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
      const Item item = Producer<C>::next_item(shared, items);
      if (item.tile.rows == 0) return;
      const int position = item.tile.first_position + first_row + lane / 4;
      float scores[kKeyTile / 2], sums[C::kHeadDim / 2], correction[2];
      uint32_t weights[kKeyTile / 4];
      SoftmaxRows rows;
#pragma unroll
      for (float& sum : sums) sum = 0;

      shared.queries_full[queries.stage].wait(queries.parity);
      constexpr uint32_t kLeaves = kTileIsEnd | kTileIsSplit;
      shared.tile_full[tiles.stage].wait(tiles.parity);
      uint32_t flags = shared.tiles[tiles.stage].flags, next_flags;
      for (int i = 0; (flags & kLeaves) == 0; ++i) {
        shared.keys_full[keys.stage].wait(keys.parity);
        named_barrier_sync(my_turn, 256);
        pin(scores);
        begin_products();
        multiply_keys(scores, shared.queries[queries.stage][0][group * 64],
                      shared.keys[keys.stage]);
        commit_products();
        const int stage = tiles.stage;
        next_flags = flags_of_next(shared, tiles);
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
        mask(scores, shared.tiles[stage], flags, group, 0, position, lane);
        rows.add(scores, params.scale_log2, correction);
        if (lane == 0) shared.tile_free[stage].arrive();
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
        flags = next_flags;
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

      while ((flags & kTileIsEnd) == 0) {
        flags = attend_to_half(shared, shared.queries[queries.stage][0][group * 64], keys, values,
                               tiles, flags, params.scale_log2, group, position, sums, rows);
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
      T* out = static_cast<T*>(params.out) + q_row * params.out_row_stride +
               int64_t{item.head} * C::kHeadDim;
      float* lse = params.lse ? params.lse + q_row * params.shape.q_heads + item.head : nullptr;
      write_row<T>(sums, rows, half, lane, valid, out, lse);
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
    Producer<C>::init_barriers(shared);
  }
  __syncthreads();
  wait_for_inputs();
  let_next_begin();
  if (warp < 4) {
    shrink_registers<C::kProducerRegisters>();
    if (warp == 0)
      Producer<C>::copy_keys_and_values(shared, maps, params);
    else if (warp == 1)
      Producer<C>::describe_tiles(shared, params);
    else
      Producer<C>::load_and_gather(shared, params, warp - 2);
  } else {
    grow_registers<C::kConsumerRegisters>();
    Consumer<C>::attend(shared, params, warp / 4 - 1);
  }
}

// The pool as [pages][groups of 8 rows of all heads' K and V][panels][8 rows][64 columns].
CUtensorMap map_of(const PagePool& pages, int page_count, int groups) {
  const cuuint64_t row_bytes = pages.head_dim * dtype_bytes(pages.dtype);
  const auto panels = static_cast<cuuint32_t>(pages.head_dim / kPanelColumns);
  const cuuint64_t sizes[5] = {kPanelColumns, kGroupKeys, panels,
                               static_cast<cuuint64_t>(pages.kv_heads) * 2 * kGroupsOfPage,
                               static_cast<cuuint64_t>(page_count)};
  const cuuint64_t strides[4] = {row_bytes, 128, row_bytes * kGroupKeys,
                                 static_cast<cuuint64_t>(pages.page_bytes)};
  const cuuint32_t box[5] = {kPanelColumns, kGroupKeys, panels, static_cast<cuuint32_t>(groups), 1};
  return tensor_map<5>(pages, sizes, strides, box);
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

// Attention plans (attention_plan.h) with mma.sync. A block takes a tile of rows of one head and
// one row tile of the plan after the other; its first warp finds the keys of the tile to come
// (attention_plan_walk.cuh). Keys and values are copied row by row, and what is not in the program
// not at all.

#include "kernels/paged_attention/attention_plan_walk.cuh"
#include "kernels/paged_attention/prefill_attention_sm80.cuh"

namespace kvasir::kernels::sm80::prefill {
namespace {

using Tile = PlanTile<kKeyTile>;
using Cut256Low = Cut<256, 1, 2, 1>;  // leaves room for the tiles' descriptions in 100 KB

// Where rows of keys come from: `base` is the KV head's keys in page 0.
struct KeyPages {
  const std::byte* base;
  int64_t page_bytes, row_bytes;
  const uint32_t* table;
};

// Whether key `row` of the tile is one of the program's.
__device__ __forceinline__ bool is_valid(const Tile& tile, int row) {
  return (tile.valid[0][row % 8 / 2] >> (row / 8 * 2 + row % 2) & 1) != 0;
}

// Keys and, behind them, values; zeros for what the tile has not.
template <class C>
__device__ __forceinline__ void copy_tile(uint32_t to, const Tile& tile, const KeyPages& pages) {
  constexpr int kChunks = C::kHeadDim / 8;
  const int chunks = static_cast<int>(pages.row_bytes / 16);
  const bool has_columns = (tile.flags & kTileHasColumns) != 0;
#pragma unroll 4
  for (int at = static_cast<int>(threadIdx.x); at < kKeyTile * kChunks; at += C::kThreads) {
    const int row = at / kChunks, chunk = at % kChunks;
    const bool valid = chunk < chunks && is_valid(tile, row);
    const std::byte* from = pages.base;
    if (valid) {
      const int key = has_columns ? tile.columns[row] : tile.groups[row / 8] + row % 8;
      from += int64_t{pages.table[key / kKeyTile]} * pages.page_bytes +
              key % kKeyTile * pages.row_bytes + chunk * 16;
    }
    copy_async_or_zero(to + (at + row) * 16, from, valid);
    copy_async_or_zero(to + C::kTileBytes + (at + row) * 16,
                       valid ? from + kKeyTile * pages.row_bytes : from, valid);
  }
}

// `position` of the warp's first row.
template <class C>
__device__ __forceinline__ void mask_tile(Scores<C>& scores, const Tile& tile, int position) {
  const int lane = static_cast<int>(threadIdx.x) % 32, column = lane % 4 * 2;
  const uint32_t valid = tile.valid[0][lane % 4];
  const bool has_columns = (tile.flags & kTileHasColumns) != 0;
  const auto reach = static_cast<uint32_t>(tile.offset_end - tile.offset_begin);
#pragma unroll
  for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int key = has_columns ? tile.columns[i * 8 + column + j] : tile.groups[i] + column + j;
#pragma unroll
      for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = position + block * 16 + half * 8 + lane / 4;
          if ((valid >> (2 * i + j) & 1) == 0 ||
              static_cast<uint32_t>(row - key - tile.offset_begin) >= reach)
            scores[block][i][half * 2 + j] = -INFINITY;
        }
    }
}

// Tiles in two places where there is room for them: one arrives while the one before it is worked
// on.
template <class T, class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocksPerMultiprocessor)
    attend_to_plan(CudaAttentionArgs args, int stages, int listed_rows) {
  extern __shared__ __align__(16) std::byte shared[];
  __shared__ Tile tiles[2];
  wait_for_inputs();
  let_next_begin();
  const PagePool& pool = args.pages;
  const int group = args.q_heads / pool.kv_heads;
  if (static_cast<int>(blockIdx.x) / group >= *reinterpret_cast<const int*>(args.workspace)) return;
  const RowTile listed = row_tiles(args)[blockIdx.x / group];
  const CudaAttentionSpan span = args.spans[listed.span];
  const int first_row = listed.first_row + static_cast<int>(blockIdx.z) * C::kRowTile;
  const int last_row = min(min(listed.first_row + listed_rows, first_row + C::kRowTile), span.rows);
  if (span.plan < 0 || first_row >= last_row) return;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int head = kv_head * group + static_cast<int>(blockIdx.x) % group;
  const CudaAttentionPlan plan = args.plans[span.plan];
  const int64_t q_row = int64_t{span.first_row} + first_row;

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row = first_row + warp * C::kWarpRows;  // of the warp's first
  const uint32_t queries = shared_address(shared);
  const uint32_t own_queries =
      queries + (warp * C::kWarpRows + lane % 16) * C::kRowBytes + lane / 16 * 16;
  const uint32_t key_lane = (lane % 8 + lane / 16 * 8) * C::kRowBytes + lane / 8 % 2 * 16;
  const uint32_t value_lane = C::kTileBytes + lane % 16 * C::kRowBytes + lane / 16 * 16;
  const int64_t row_bytes = pool.head_dim * 2;
  const KeyPages pages{.base = pool.base + kv_head * 2 * kKeyTile * row_bytes,
                       .page_bytes = pool.page_bytes,
                       .row_bytes = row_bytes,
                       .table = args.page_tables + span.first_page};
  const int window =
      args.window > 0 ? static_cast<int>(min(args.window, int64_t{kNoBound})) : kNoBound;
  copy_rows<C, C::kRowTile>(queries,
                            static_cast<const std::byte*>(args.q) +
                                (q_row * args.q_row_stride + int64_t{head} * pool.head_dim) * 2,
                            args.q_row_stride * 2, last_row - first_row, pool.head_dim / 8);

  WarpRows<T, C> rows;
  uint64_t pairs = 0;
  for (int begin = first_row, end; begin < last_row; begin = end) {
    const int tile_of_plan = begin / plan.row_tile;
    end = min(last_row, (tile_of_plan + 1) * plan.row_tile);
    const PlanRows part[1] = {{.first = span.query_offset + begin,
                               .last = span.query_offset + end - 1,
                               .tile = tile_of_plan,
                               .position = span.query_offset + tile_of_plan * plan.row_tile}};
    PlanWalk<kKeyTile, 1> walk(plan, head, part, window);
    const auto place = [&](int n) {
      return queries + C::kQueryBytes + (stages == 2 ? n % 2 : 0) * 2 * C::kTileBytes;
    };
    if (warp == 0) walk.next(tiles[0]);
    __syncthreads();
    if ((tiles[0].flags & kTileIsEnd) == 0) copy_tile<C>(place(0), tiles[0], pages);
    commit_copies();
    for (int n = 0;; ++n) {
      const Tile &tile = tiles[n % 2], &next = tiles[(n + 1) % 2];
      if ((tile.flags & kTileIsEnd) != 0) break;
      if (warp == 0) walk.next(tiles[(n + 1) % 2]);
      __syncthreads();
      const bool has_next = (next.flags & kTileIsEnd) == 0;
      if (stages == 2) {
        if (has_next) copy_tile<C>(place(n + 1), next, pages);
        commit_copies();
        wait_for_copies<1>();
      } else {
        wait_for_copies();
      }
      __syncthreads();
      if (row >= begin && row < end) {
        Scores<C> scores;
        score_keys<T, C>(scores, own_queries, place(n) + key_lane);
        if ((tile.flags & (kTileHasGaps | kTileHasBounds)) != 0)
          mask_tile<C>(scores, tile, span.query_offset + row);
        weigh<T, C>(scores, rows, args.scale * kLog2E);
        add_values<T, C>(scores, rows, place(n) + value_lane);
      }
      pairs += static_cast<uint64_t>(end - begin) * kKeyTile;
      __syncthreads();
      if (stages == 2) continue;
      if (has_next) copy_tile<C>(place(n + 1), next, pages);
      commit_copies();
    }
    __syncthreads();
  }
  wait_for_copies();
  __syncthreads();
  if (row < last_row)
    write_rows<T, C>(args, rows, shared + warp * C::kWarpRows * C::kRowBytes,
                     q_row + warp * C::kWarpRows, head, min(C::kWarpRows, last_row - row));
  if (args.scored_pairs && threadIdx.x == 0)
    atomicAdd(reinterpret_cast<unsigned long long*>(args.scored_pairs + listed.span), pairs);
}

template <class T, class C>
void run_cut(const cuda::Context& context, const CudaAttentionArgs& args, int tile_rows) {
  const SharedLimits limits = shared_limits(context.compute_capability);
  const int descriptions = static_cast<int>(2 * sizeof(Tile));
  const int room = std::min(limits.block_bytes,
                            limits.multiprocessor_bytes / C::kBlocksPerMultiprocessor - 1024) -
                   descriptions;
  const int stages = C::kQueryBytes + 4 * C::kTileBytes <= room ? 2 : 1;
  const int bytes = C::kQueryBytes + stages * 2 * C::kTileBytes;
  KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(attend_to_plan<T, C>),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const int64_t tiles = most_tiles(tile_rows, args.span_count, args.max_rows);
  const dim3 grid(static_cast<unsigned>(tiles * (args.q_heads / args.pages.kv_heads)),
                  static_cast<unsigned>(args.pages.kv_heads),
                  static_cast<unsigned>((tile_rows + C::kRowTile - 1) / C::kRowTile));
  if (grid.x == 0) return;
  launch(context, attend_to_plan<T, C>, grid, C::kThreads, static_cast<size_t>(bytes), args, stages,
         tile_rows);
}

template <class T>
void run_type(const cuda::Context& context, const CudaAttentionArgs& args, int tile_rows) {
  const int head_dim = args.pages.head_dim;
  if (head_dim <= 64) return run_cut<T, Cut64>(context, args, tile_rows);
  if (head_dim <= 128) return run_cut<T, Cut128>(context, args, tile_rows);
  if (tile_rows == Cut256::kRowTile) return run_cut<T, Cut256>(context, args, tile_rows);
  run_cut<T, Cut256Low>(context, args, tile_rows);
}

}  // namespace

void run_plans(const cuda::Context& context, const CudaAttentionArgs& args, int tile_rows) {
  if (args.pages.dtype == DType::kBF16)
    run_type<bfloat16>(context, args, tile_rows);
  else
    run_type<float16>(context, args, tile_rows);
}

}  // namespace kvasir::kernels::sm80::prefill

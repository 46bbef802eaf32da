// FlashAttention-2 (Dao, 2023, arXiv:2307.08691, algorithm 1) over pages: a block goes through the
// keys in tiles of one page. Differences: keys come from pages; a tile without visible keys for a
// warp's rows is skipped by that warp.

#include "kernels/paged_attention/prefill_attention_sm80.cuh"
#include "kernels/paged_attention/prefill_attention_table.h"

namespace kvasir::kernels {
namespace sm80::prefill {
namespace {

// The key tiles [first, end) with visible keys of the positions [from, to].
struct KeyTiles {
  int first, end;
};
__host__ __device__ inline KeyTiles key_tiles(int64_t from, int64_t to, int64_t window) {
  if (to < 0) return {0, 0};
  const int64_t lowest = window > 0 && from + 1 > window ? from + 1 - window : 0;
  return {static_cast<int>(lowest / kKeyTile), static_cast<int>(to / kKeyTile) + 1};
}

// --- build: the list of row tiles, longest first.

constexpr int kListThreads = 1024;  // and as many lengths told apart

__global__ void __launch_bounds__(kListThreads)
    list_row_tiles(CudaAttentionArgs args, int tile_rows, int capacity) {
  __shared__ int places[kListThreads];
  __shared__ int warp_sums[32];
  __shared__ int longest;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  places[thread] = 0;
  if (thread == 0) longest = 1;
  wait_for_inputs();
  let_next_begin();
  __syncthreads();

  const auto each_tile = [&](auto&& use) {
    for (int i = warp; i < args.span_count; i += kListThreads / 32) {
      const CudaAttentionSpan span = args.spans[i];
      for (int row = lane * tile_rows; row < span.rows; row += 32 * tile_rows) {
        const int64_t from = int64_t{span.query_offset} + row;
        const KeyTiles tiles =
            key_tiles(from, from + min(tile_rows, span.rows - row) - 1, args.window);
        use(RowTile{i, row}, tiles.end - tiles.first);
      }
    }
  };
  each_tile([&](RowTile, int length) { atomicMax(&longest, length); });
  __syncthreads();
  const float step = static_cast<float>(kListThreads - 1) / static_cast<float>(longest);
  // The longest come into place 0.
  const auto place_of = [&](int length) {
    return kListThreads - 1 - static_cast<int>(static_cast<float>(length) * step);
  };
  each_tile([&](RowTile, int length) { atomicAdd(&places[place_of(length)], 1); });
  __syncthreads();

  // From counts to where each place begins.
  const int count = places[thread];
  int sum = count;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int before = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += before;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  for (int i = 0; i < warp; ++i) sum += warp_sums[i];
  places[thread] = sum - count;
  if (thread == kListThreads - 1) *reinterpret_cast<int*>(args.workspace) = min(sum, capacity);
  __syncthreads();
  each_tile([&](RowTile tile, int length) {
    const int at = atomicAdd(&places[place_of(length)], 1);
    if (at < capacity) row_tiles(args)[at] = tile;
  });
}

// --- run
// `position` of the warp's first row, `key` of the tile's first.
template <class C>
__device__ __forceinline__ void mask_keys(Scores<C>& scores, int position, int key,
                                          int64_t window) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // Key i of a row is visible where lowest < i <= highest.
  const int before = window > 0 ? static_cast<int>(min(window, int64_t{1} << 30)) : 1 << 30;
#pragma unroll
  for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int highest = position + block * 16 + half * 8 + lane / 4 - key - lane % 4 * 2;
      const int lowest = highest - before;
#pragma unroll
      for (int i = 0; i < kKeyTile / 8; ++i)
#pragma unroll
        for (int j = 0; j < 2; ++j)
          if (i * 8 + j > highest || i * 8 + j <= lowest)
            scores[block][i][half * 2 + j] = -INFINITY;
    }
}

// Keys and values of a tile lie side by side in one of `stages` places. Two: a tile arrives while
// the one before it is worked on. One: values arrive during the scores, the next keys during the
// values' product.
template <class T, class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocksPerMultiprocessor)
    prefill_attention(CudaAttentionArgs args, int stages) {
  extern __shared__ __align__(16) std::byte shared[];
  wait_for_inputs();
  let_next_begin();
  const PagePool& pages = args.pages;
  const int group = args.q_heads / pages.kv_heads;
  if (static_cast<int>(blockIdx.x) / group >= *reinterpret_cast<const int*>(args.workspace)) return;
  const RowTile tile = row_tiles(args)[blockIdx.x / group];
  const CudaAttentionSpan span = args.spans[tile.span];
  if (args.plan_count > 0 && span.plan >= 0) return;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int head = kv_head * group + static_cast<int>(blockIdx.x) % group;
  const int tile_count = min(C::kRowTile, span.rows - tile.first_row);
  const int tile_position = span.query_offset + tile.first_row;
  const int64_t tile_row = int64_t{span.first_row} + tile.first_row;
  const KeyTiles keys = key_tiles(tile_position, tile_position + tile_count - 1, args.window);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int count = min(C::kWarpRows, tile_count - warp * C::kWarpRows);  // this warp's rows
  const int position = tile_position + warp * C::kWarpRows;
  // The key tiles of this warp's rows (had it all of them: what is masked adds nothing).
  const KeyTiles own =
      count > 0 ? key_tiles(position, position + C::kWarpRows - 1, args.window) : KeyTiles{0, 0};

  const uint32_t queries = shared_address(shared);
  const uint32_t first_stage = queries + C::kQueryBytes;
  const int chunks = pages.head_dim / 8;
  const int64_t row_bytes = pages.head_dim * 2;
  const int64_t values_offset = kKeyTile * row_bytes;
  const std::byte* head_base = pages.base + kv_head * 2 * values_offset;
  const uint32_t* table = args.page_tables + span.first_page;
  const int length = span.query_offset + span.rows;
  const auto copy_keys = [&](uint32_t to, const std::byte* page, int key_tile) {
    copy_rows<C, kKeyTile>(to, page, row_bytes, length - key_tile * kKeyTile, chunks);
  };
  const auto copy_values = [&](uint32_t to, const std::byte* page, int key_tile) {
    copy_rows<C, kKeyTile>(to + C::kTileBytes, page + values_offset, row_bytes,
                           length - key_tile * kKeyTile, chunks);
  };
  const auto page_of = [&](uint32_t index) {
    return head_base + int64_t{index} * pages.page_bytes;
  };

  WarpRows<T, C> rows;
  if (keys.first < keys.end) {
    const std::byte* page = page_of(table[keys.first]);
    // Always one ahead of what is copied, so that nothing waits for it.
    uint32_t next_index = keys.first + 1 < keys.end ? table[keys.first + 1] : 0;
    copy_rows<C, C::kRowTile>(
        queries,
        static_cast<const std::byte*>(args.q) +
            (tile_row * args.q_row_stride + int64_t{head} * pages.head_dim) * 2,
        args.q_row_stride * 2, tile_count, chunks);
    copy_keys(first_stage, page, keys.first);
    if (stages == 2) copy_values(first_stage, page, keys.first);
    commit_copies();

    const uint32_t own_queries =
        queries + (warp * C::kWarpRows + lane % 16) * C::kRowBytes + lane / 16 * 16;
    const uint32_t key_lane = (lane % 8 + lane / 16 * 8) * C::kRowBytes + lane / 8 % 2 * 16;
    const uint32_t value_lane = C::kTileBytes + lane % 16 * C::kRowBytes + lane / 16 * 16;
    const float scale_log2 = args.scale * kLog2E;
    uint32_t stage = first_stage;
    for (int key_tile = keys.first; key_tile < keys.end; ++key_tile) {
      const bool has_next = key_tile + 1 < keys.end;
      const std::byte* next_page = page_of(next_index);
      const uint32_t next_stage = stages == 2 ? 2 * first_stage + 2 * C::kTileBytes - stage : stage;
      wait_for_copies();
      __syncthreads();
      if (stages == 2) {
        if (has_next) {
          copy_keys(next_stage, next_page, key_tile + 1);
          copy_values(next_stage, next_page, key_tile + 1);
        }
      } else {
        copy_values(stage, page, key_tile);
      }
      commit_copies();
      if (key_tile + 2 < keys.end) next_index = table[key_tile + 2];

      const bool is_own = key_tile >= own.first && key_tile < own.end;
      Scores<C> scores;
      if (is_own) {
        score_keys<T, C>(scores, own_queries, stage + key_lane);
        const int key = key_tile * kKeyTile;
        if (key + kKeyTile - 1 > position ||
            (args.window > 0 && key <= position + C::kWarpRows - 1 - args.window))
          mask_keys<C>(scores, position, key, args.window);
        weigh<T, C>(scores, rows, scale_log2);
      }
      if (stages == 1) {
        wait_for_copies();
        __syncthreads();
        if (has_next) copy_keys(stage, next_page, key_tile + 1);
        commit_copies();
      }
      if (is_own) add_values<T, C>(scores, rows, stage + value_lane);
      stage = next_stage;
      page = next_page;
    }
  }
  if (count > 0)
    write_rows<T, C>(args, rows, shared + warp * C::kWarpRows * C::kRowBytes,
                     tile_row + warp * C::kWarpRows, head, count);
}

// --- host

// Calls use(Cut{}) with the cut for such heads on such a device.
template <class Use>
auto with_cut(int head_dim, int compute_capability, Use&& use) {
  if (head_dim <= 64) return use(Cut64{});
  if (head_dim <= 80) return use(Cut80{});
  if (head_dim <= 96) return use(Cut96{});
  if (head_dim <= 128) return use(Cut128{});
  if (shared_limits(compute_capability).block_bytes >= Cut256::kQueryBytes + 2 * Cut256::kTileBytes)
    return use(Cut256{});
  return use(Cut256Small{});
}

bool supports(const AttentionDesc& desc, int compute_capability) {
  return compute_capability >= 80 && desc.dtype != DType::kF32 && desc.head_dim > 0 &&
         desc.head_dim % 16 == 0 && desc.head_dim <= 256;
}

int64_t tile_rows_of(int head_dim, int compute_capability) {
  return with_cut(head_dim, compute_capability, [](auto cut) -> int64_t { return cut.kRowTile; });
}

size_t workspace_bytes(const AttentionDesc& desc, const cuda::Context& context, int max_spans,
                       int64_t max_rows, bool) {
  const int64_t rows = tile_rows_of(desc.head_dim, context.compute_capability);
  return 16 + static_cast<size_t>(most_tiles(rows, max_spans, max_rows)) * sizeof(RowTile);
}

void build(const cuda::Context& context, const CudaAttentionArgs& args) {
  const int64_t rows = tile_rows_of(args.pages.head_dim, context.compute_capability);
  launch(context, list_row_tiles, 1, kListThreads, 0, args, static_cast<int>(rows),
         static_cast<int>(most_tiles(rows, args.span_count, args.max_rows)));
}

// Programs are read as they are.
void build_plans(const cuda::Context&, const CudaAttentionArgs&) {}

template <class T, class C>
void run_cut(const cuda::Context& context, const CudaAttentionArgs& args) {
  // Two stages where they leave a multiprocessor room for as many blocks as its registers do; of
  // every block it takes 1 KB for itself.
  const SharedLimits limits = shared_limits(context.compute_capability);
  const int room = std::min(limits.block_bytes,
                            limits.multiprocessor_bytes / C::kBlocksPerMultiprocessor - 1024);
  const int stages = C::kQueryBytes + 4 * C::kTileBytes <= room ? 2 : 1;
  const int bytes = C::kQueryBytes + stages * 2 * C::kTileBytes;
  KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(prefill_attention<T, C>),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  const int64_t tiles = most_tiles(C::kRowTile, args.span_count, args.max_rows);
  const dim3 grid(static_cast<unsigned>(tiles * (args.q_heads / args.pages.kv_heads)),
                  static_cast<unsigned>(args.pages.kv_heads));
  if (grid.x == 0) return;
  launch(context, prefill_attention<T, C>, grid, C::kThreads, static_cast<size_t>(bytes), args,
         stages);
}

void run(const cuda::Context& context, const CudaAttentionArgs& args) {
  with_cut(args.pages.head_dim, context.compute_capability, [&](auto cut) {
    if (args.pages.dtype == DType::kBF16)
      run_cut<bfloat16, decltype(cut)>(context, args);
    else
      run_cut<float16, decltype(cut)>(context, args);
    if (args.plan_count > 0) run_plans(context, args, cut.kRowTile);
  });
}

uint64_t pairs(const AttentionDesc& desc, int64_t query_offset, int64_t rows, int64_t window) {
  const int64_t warp_rows = desc.head_dim <= 128 ? Cut128::kWarpRows : Cut256::kWarpRows;
  int64_t sum = 0;
  for (int64_t row = 0; row < rows; row += warp_rows) {
    const int64_t count = std::min(warp_rows, rows - row), from = query_offset + row;
    const KeyTiles tiles = key_tiles(from, from + count - 1, window);
    sum += count * (tiles.end - tiles.first) * kKeyTile;
  }
  return static_cast<uint64_t>(sum);
}

}  // namespace
}  // namespace sm80::prefill

extern const PrefillImplementation kPrefillAttentionSm80 = {
    .name = "prefill_attention_sm80",
    .priority = 80,
    .supports = sm80::prefill::supports,
    .workspace_bytes = sm80::prefill::workspace_bytes,
    .build = sm80::prefill::build,
    .build_plans = sm80::prefill::build_plans,
    .run = sm80::prefill::run,
    .pairs = sm80::prefill::pairs};

}  // namespace kvasir::kernels
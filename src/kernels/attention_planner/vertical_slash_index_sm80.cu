// A team of blocks selects one head's columns, or its offsets with their relative runs; then blocks
// count what the index holds, so that the last kernel can decide which heads are made dense.

#include <algorithm>

#include "kernels/attention_planner/radix_select.cuh"
#include "kernels/attention_planner/score_row.cuh"
#include "kernels/attention_planner/vertical_slash_index_cuda.h"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
using Row = radix::ScoreRow<kThreads>;
constexpr int kVector = Row::kVector;

// Of each selected head, in the workspace.
struct HeadState {
  int32_t columns;  // selected
  int32_t runs;
  unsigned long long covered_pairs;  // of (query, column) where a relative run holds the column
  unsigned long long pairs;          // of runs, and of columns whether covered or not
};

struct Params {
  VerticalSlashIndexArgs args;
  int group;
  HeadState* states;  // [units * group]
  int32_t* offsets;   // [units * group, most_offsets]
};

// A head of a unit.
struct Head {
  CudaAttentionSpan span;
  int length;
  HeadBudget budget;
  int64_t row;    // of sums and workspace
  int64_t place;  // of the plan's arrays

  __device__ __forceinline__ Head(const Params& params, int index) : row(index) {
    const VerticalSlashIndexArgs& args = params.args;
    const int unit = args.first_unit + index / params.group;
    const int head = unit % args.kv_heads * params.group + index % params.group;
    span = args.spans[unit / args.kv_heads];
    length = span.query_offset + span.rows;
    budget = args.heads[head];
    place = int64_t{unit / args.kv_heads} * args.q_heads + head;
  }
  __device__ __forceinline__ bool has_index() const {
    return span.rows > 0 && budget.kind == HeadKind::kVerticalSlash;
  }
};

template <class Group>
struct SelectShared {
  union {
    radix::Shared<Group, kThreads, true> mass;
    radix::Shared<Group, kThreads, false> count;
  };
  uint64_t warp_sums[kWarps];
  uint64_t of_blocks[2][Group::kBlocks];
};

// The block's `value`, the same in all its threads, to all blocks of the team.
template <class Group>
__device__ __forceinline__ void share(uint64_t (&of_blocks)[Group::kBlocks], uint64_t value) {
  if (threadIdx.x < Group::kBlocks) *Group::at(&of_blocks[Group::rank()], threadIdx.x) = value;
  Group::sync();
}

// As adaptive_budget defines it.
template <class Group>
__device__ int adaptive_count(SelectShared<Group>& shared, const Row& row, float mass) {
  uint64_t all = 0, forced = 0;
  row.for_each([&](int i, float score) {
    if (i >= row.length) return;
    all += radix::mass_of(score);
    if (i < row.forced) forced += radix::mass_of(score);
  });
  share<Group>(shared.of_blocks[0], radix::block_sum<kThreads>(all, shared.warp_sums));
  share<Group>(shared.of_blocks[1], radix::block_sum<kThreads>(forced, shared.warp_sums));
  all = forced = 0;
  for (int block = 0; block < Group::kBlocks; ++block) {
    all += shared.of_blocks[0][block];
    forced += shared.of_blocks[1][block];
  }
  Group::sync();
  const auto wanted = static_cast<uint64_t>(ceil(double{mass} * static_cast<double>(all)));
  if (wanted <= forced) return row.forced;
  uint32_t count = 0;
  radix::find_threshold<true>(
      shared.mass, min(wanted, all) - forced,
      [&](auto&& use) {
        row.for_each(
            [&](int i, float score) { use(i < row.forced ? radix::kNone : row.key(i, score)); });
      },
      &count);
  return row.forced + static_cast<int>(count);
}

// The indices of what `threshold` takes, ascending.
template <class Group>
__device__ void write_indices(const Row& row, radix::Threshold threshold,
                              SelectShared<Group>& shared, int32_t* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kStep = 32 * kVector;
  const int steps = (row.last - row.first + kWarps * kStep - 1) / (kWarps * kStep);
  const int first = row.first + warp * steps * kStep, last = min(row.last, first + steps * kStep);
  // Keys above the threshold count 1, equal ones 2^32: no row has 2^32 of them.
  uint64_t found = 0;
  const auto weigh = [&](int i, float score) -> uint64_t {
    const uint32_t key = row.key(i, score);
    return key > threshold.key ? 1 : key == threshold.key ? uint64_t{1} << 32 : 0;
  };
#pragma unroll 4
  for (int i = first + lane * kVector; i < last; i += kStep) {
    const float4 scores = row.read(i);
    found += weigh(i, scores.x) + weigh(i + 1, scores.y) + weigh(i + 2, scores.z) +
             weigh(i + 3, scores.w);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) found += __shfl_xor_sync(~0u, found, step);
  if (lane == 0) shared.warp_sums[warp] = found;
  __syncthreads();
  uint64_t before = 0, all = 0;
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) before += shared.warp_sums[i];
    all += shared.warp_sums[i];
  }
  share<Group>(shared.of_blocks[0], all);
  for (int block = 0; block < Group::rank(); ++block) before += shared.of_blocks[0][block];
#pragma unroll 1
  for (int from = first; from < last; from += kStep) {
    const int at = from + lane * kVector, i = at < last ? at : row.length;
    const float4 scores = row.read(i);
    const uint64_t own[kVector] = {weigh(i, scores.x), weigh(i + 1, scores.y),
                                   weigh(i + 2, scores.z), weigh(i + 3, scores.w)};
    const uint64_t all = own[0] + own[1] + own[2] + own[3];
    if (!__any_sync(~0u, all != 0)) continue;
    uint64_t sum = all;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint64_t below = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += below;
    }
    uint64_t here = before + sum - all;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const auto above = static_cast<uint32_t>(here), equal = static_cast<uint32_t>(here >> 32);
      if (own[j] == 1 || (own[j] != 0 && equal < threshold.equal))
        out[above + min(equal, threshold.equal)] = i + j;
      here += own[j];
    }
    before += __shfl_sync(~0u, sum, 31);
  }
}

// The union of [-offset, tile - offset) over `offsets` (ascending) as kRelative segments, ascending
// and apart. Returns how many.
__device__ int write_runs(const int32_t* offsets, int count, int tile, uint32_t* warp_sums,
                          PlanSegment* segments) {
  uint32_t before = 0;
  for (int first = 0; first < count; first += kThreads) {
    // From the farthest offset on.
    const int i = first + static_cast<int>(threadIdx.x);
    const bool is_here = i < count;
    const int offset = is_here ? offsets[count - 1 - i] : 0;
    const bool begins = is_here && (i == 0 || offsets[count - i] - offset > tile);
    const bool ends = is_here && (i == count - 1 || offset - offsets[count - 2 - i] > tile);
    const uint32_t run = before + radix::block_scan<kThreads>(begins ? 1u : 0u, warp_sums);
    if (begins) segments[run - 1].first = -offset;
    if (ends) segments[run - 1].offset_end = tile - offset;  // where it ends, until below
    before += __syncthreads_count(begins);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(before); i += kThreads) {
    const int first = segments[i].first, end = segments[i].offset_end;
    segments[i] = {.kind = SegmentKind::kRelative, .first = first, .count = end - first};
  }
  return static_cast<int>(before);
}

template <class Group>
__device__ __forceinline__ void select(const Params& params) {
  __shared__ SelectShared<Group> shared;
  wait_for_inputs();
  let_next_begin();
  const VerticalSlashIndexArgs& args = params.args;
  const Head head(params, static_cast<int>(blockIdx.x) / Group::kBlocks);
  if (!head.has_index()) return;
  const bool is_columns = blockIdx.y == 0;
  const float* sums = is_columns ? args.column_sums : args.offset_sums;
  const auto forced = static_cast<int>(is_columns ? kForcedColumns : kForcedOffsets);
  const int part = Row::part_of(head.length, Group::kBlocks);
  const Row row{.scores = sums + head.row * args.sums_row_stride,
                .length = head.length,
                .forced = min(forced, head.length),
                .first = Group::rank() * part,
                .last = min(head.length, (Group::rank() + 1) * part)};
  const int wanted = args.budgets.mass > 0 ? adaptive_count<Group>(shared, row, args.budgets.mass)
                                           : (is_columns ? head.budget.first : head.budget.second);
  __syncthreads();
  const int count = min(static_cast<int>(clamp_budget(
                            wanted, is_columns ? kFewestColumns : kFewestOffsets, head.length)),
                        is_columns ? args.budgets.most_columns : args.budgets.most_offsets);
  const radix::Threshold threshold =
      count == head.length
          ? radix::Threshold{radix::kNone, 0}
          : radix::find_threshold<false>(
                shared.count, static_cast<uint64_t>(count), [&](auto&& use) {
                  row.for_each([&](int i, float score) { use(row.key(i, score)); });
                });
  HeadState& state = params.states[head.row];
  int32_t* const out = is_columns ? args.plan.columns + head.place * args.plan.head_columns
                                  : params.offsets + head.row * args.budgets.most_offsets;
  // Where all are taken, the keys beyond the row are not above the threshold.
  write_indices<Group>(row, threshold, shared, out);
  Group::sync();  // all is written; and no block leaves while others read its memory
  if (Group::rank() != 0) return;
  if (is_columns) {
    if (threadIdx.x == 0) state.columns = count;
    return;
  }
  const int runs =
      write_runs(out, count, args.plan.row_tile, reinterpret_cast<uint32_t*>(shared.warp_sums),
                 args.plan.segments + head.place * args.plan.head_segments);
  if (threadIdx.x == 0) {
    state.runs = runs;
    state.covered_pairs = state.pairs = 0;
  }
}

__global__ void __launch_bounds__(kThreads) select_by_block(Params params) {
  select<OneBlock>(params);
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__global__ void __launch_bounds__(kThreads) __cluster_dims__(Cluster::kBlocks, 1, 1)
    select_by_cluster(Params params) {
  select<Cluster>(params);
}
#else
__global__ void select_by_cluster(Params) {}
#endif

// --- How many pairs an index holds.

constexpr int kCountThreads = 256;
constexpr int kRunsOfBlock = 512;

// The row tiles of a span: all but the last one of `tile` queries.
struct Tiles {
  int log_tile;
  int first_position, count, last_rows;

  __device__ __forceinline__ Tiles(const CudaAttentionSpan& span, int tile)
      : log_tile(tile == 64 ? 6 : 7),
        first_position(span.query_offset),
        count((span.rows + tile - 1) / tile),
        last_rows(span.rows - (count - 1) * tile) {}
  __device__ __forceinline__ int tile() const { return 1 << log_tile; }
  // Queries of the tiles [first, end), clipped to those that there are.
  __device__ __forceinline__ int64_t queries(int first, int end) const {
    first = max(first, 0);
    end = min(end, count);
    if (first >= end) return 0;
    return (int64_t{end - first} << log_tile) - (end == count ? tile() - last_rows : 0);
  }
  // The first tile at `position` or behind it; may be negative or beyond the last.
  __device__ __forceinline__ int at(int position) const {
    return (position - first_position + tile() - 1) >> log_tile;
  }
  // Pairs of the keys [t + first, t + end), end <= 0, that exist.
  __device__ int64_t pairs(int first, int end) const {
    // From `some` on a tile meets a part of them, from `all` on everything.
    const int some = max(at(1 - end), 0), all = min(max(at(-first), 0), count);
    int64_t sum = queries(all, count) * (end - first);
    if (some < all) {
      // t + end keys of each tile, an arithmetic series.
      const int64_t tiles = all - some;
      const int64_t lowest = int64_t{first_position} + (int64_t{some} << log_tile) + end;
      const int64_t keys = tiles * lowest + (tiles * (tiles - 1) / 2 << log_tile);
      sum += keys << log_tile;
      if (all == count) sum -= (lowest + ((tiles - 1) << log_tile)) * (tile() - last_rows);
    }
    return sum;
  }
};

__device__ __forceinline__ void add_to(unsigned long long& sum, int64_t value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  if (threadIdx.x % 32 == 0 && value != 0) atomicAdd(&sum, static_cast<unsigned long long>(value));
}

// grid.y: some columns against some runs; the first block of columns also counts its runs, the
// first of runs its columns.
__global__ void __launch_bounds__(kCountThreads) count_pairs(Params params, int blocks_of_runs) {
  __shared__ int2 runs[kRunsOfBlock];  // distances [x, y] between query and key that they hold
  wait_for_inputs();
  let_next_begin();
  const VerticalSlashIndexArgs& args = params.args;
  const Head head(params, static_cast<int>(blockIdx.x));
  if (!head.has_index()) return;
  HeadState& state = params.states[head.row];
  const int first_run = static_cast<int>(blockIdx.y) % blocks_of_runs * kRunsOfBlock;
  const int column_block = static_cast<int>(blockIdx.y) / blocks_of_runs;
  const int column_index = column_block * kCountThreads + static_cast<int>(threadIdx.x);
  if (first_run >= state.runs || column_block * kCountThreads >= max(state.columns, 1)) return;

  const Tiles tiles(head.span, args.plan.row_tile);
  const PlanSegment* segments = args.plan.segments + head.place * args.plan.head_segments;
  const int count = min(kRunsOfBlock, state.runs - first_run);
  int64_t pairs = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kCountThreads) {
    const int first = segments[first_run + i].first, end = first + segments[first_run + i].count;
    runs[i] = make_int2(max(1, 1 - end), -first);
    if (column_block == 0) pairs += tiles.pairs(first, min(end, 0));
  }
  __syncthreads();
  int64_t covered = 0;
  if (column_index < state.columns) {
    const int column = args.plan.columns[head.place * args.plan.head_columns + column_index];
    if (first_run == 0) pairs += tiles.queries(tiles.at(column + 1), tiles.count);
    const int from = column - tiles.first_position;
    const int round_up = tiles.tile() - 1, last = tiles.count - 1;
    int64_t met = 0;
    int met_last = 0;
    for (int i = 0; i < count; ++i) {
      const int2 run = runs[i];
      const int first = max(0, (from + run.x + round_up) >> tiles.log_tile);
      const int end = min(last, (from + run.y) >> tiles.log_tile);
      if (run.y < run.x || first > end) continue;
      met += end - first + 1;
      met_last += end == last;
    }
    covered = (met << tiles.log_tile) - int64_t{met_last} * (tiles.tile() - tiles.last_rows);
  }
  add_to(state.pairs, pairs);
  add_to(state.covered_pairs, covered);
}

// --- The programs.

constexpr int kWriteThreads = 64;

__global__ void __launch_bounds__(kWriteThreads) write_programs(Params params) {
  wait_for_inputs();
  let_next_begin();
  const VerticalSlashIndexArgs& args = params.args;
  const int index = static_cast<int>(blockIdx.x) * kWriteThreads + static_cast<int>(threadIdx.x);
  if (index >= args.units * params.group) return;
  const Head head(params, index);
  if (head.budget.kind == HeadKind::kBlockSparse) return;
  const auto first = static_cast<int32_t>(head.place * args.plan.head_segments);
  PlanSegment* segments = args.plan.segments + first;
  HeadProgram& program = args.plan.programs[head.place];
  HeadReport& report = args.plan.reports[head.place];
  report = {};
  program = {.first = first, .count = 0};
  if (head.span.rows == 0) return;

  const Tiles tiles(head.span, args.plan.row_tile);
  // Of every tile the keys up to its last query.
  const int64_t before_last = tiles.count - 1;
  report.dense_pairs = ((before_last * tiles.first_position +
                         (before_last * (before_last + 1) / 2 << tiles.log_tile))
                        << tiles.log_tile) +
                       int64_t{tiles.last_rows} * head.length;
  if (head.budget.kind == HeadKind::kAShape) {
    // No window at all would leave rows without keys.
    const int init = head.budget.first, local = max(1, head.budget.second);
    if (init > 0) segments[program.count++] = {.count = init, .offset_begin = local};
    segments[program.count++] = {.count = kNoBound, .offset_end = local};
    return;
  }
  const HeadState& state = params.states[head.row];
  // A tile's own positions belong to the run of offset 0.
  const int64_t own =
      (before_last << (2 * tiles.log_tile)) + int64_t{tiles.last_rows} * tiles.last_rows;
  report.pairs =
      own + static_cast<int64_t>(state.pairs) - static_cast<int64_t>(state.covered_pairs);
  const double density =
      static_cast<double>(report.pairs) / static_cast<double>(report.dense_pairs);
  if (!(density <= args.densest)) {
    segments[0] = {.count = kNoBound};
    program.count = 1;
    report.pairs = report.dense_pairs;
    report.is_dense = 1;
    return;
  }
  program.count = state.runs;
  // Columns that some tile may take: those before the last one.
  const int32_t* columns = args.plan.columns + head.place * args.plan.head_columns;
  const int position = tiles.first_position + (static_cast<int>(before_last) << tiles.log_tile);
  int low = 0, high = state.columns;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (columns[middle] < position)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return;
  segments[program.count++] = {.kind = SegmentKind::kColumns,
                               .first = static_cast<int32_t>(head.place * args.plan.head_columns),
                               .count = low};
}

// --- host

struct Layout {
  Layout(const VerticalSlashBudgets& budgets, int heads) {
    offsets = static_cast<size_t>(heads) * sizeof(HeadState);
    bytes = offsets + static_cast<size_t>(heads) * static_cast<size_t>(budgets.most_offsets) *
                          sizeof(int32_t);
  }
  size_t offsets, bytes;
};

unsigned blocks_for(int64_t count, int64_t size) {
  return static_cast<unsigned>(std::max<int64_t>(1, (count + size - 1) / size));
}

}  // namespace

int32_t vertical_slash_segments(const VerticalSlashBudgets& budgets, int64_t max_length,
                                int row_tile) {
  const int64_t runs = std::min<int64_t>(budgets.most_offsets, max_length / (row_tile + 1) + 2);
  return static_cast<int32_t>(std::max<int64_t>(2, runs + 1));
}

size_t vertical_slash_index_workspace_bytes(const VerticalSlashBudgets& budgets, int group_heads,
                                            int units) {
  return Layout(budgets, group_heads * units).bytes;
}

void run_vertical_slash_index(const cuda::Context& context, const VerticalSlashIndexArgs& args) {
  if (args.units == 0) return;
  const int group = args.q_heads / args.kv_heads, heads = group * args.units;
  const Layout layout(args.budgets, heads);
  const Params params{.args = args,
                      .group = group,
                      .states = reinterpret_cast<HeadState*>(args.workspace),
                      .offsets = reinterpret_cast<int32_t*>(args.workspace + layout.offsets)};
  const auto rows = static_cast<unsigned>(heads);
  // Code for clusters exists for 9.0 alone (see KvasirCuda.cmake).
  if (context.compute_capability == 90 && args.max_length >= radix::kLongRow)
    launch(context, select_by_cluster, dim3(rows * Cluster::kBlocks, 2), kThreads, 0, params);
  else
    launch(context, select_by_block, dim3(rows, 2), kThreads, 0, params);
  const unsigned runs = blocks_for(args.plan.head_segments, kRunsOfBlock);
  const unsigned columns = blocks_for(args.budgets.most_columns, kCountThreads);
  launch(context, count_pairs, dim3(rows, columns * runs), kCountThreads, 0, params,
         static_cast<int>(runs));
  launch(context, write_programs, blocks_for(heads, kWriteThreads), kWriteThreads, 0, params);
}

}  // namespace kvasir::kernels

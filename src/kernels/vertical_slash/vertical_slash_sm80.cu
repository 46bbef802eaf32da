// The keys of a unit are cut into ranges of whole pages, a block each. A block keeps the queries of
// up to kHeads heads in registers (a warp some of a head's 64 rows) and goes through its pages:
// first for each row's maximum and sum, then, when these are merged over the ranges, for the
// shares.
//
// Rows are placed so that row i has position length - 64 + i: where the span is shorter, the first
// ones are unused. A share of row i and key c belongs to the diagonal that meets the last row at
// kappa = c + 63 - i, which is offset length - 1 - kappa. Of a range, diagonals with kappa behind
// its last key are carried into the next range.
//
// Sums over diagonals: the products of 8 rows and 8 keys leave one matrix of 8 x 8 over the lanes
// of a warp, and matrices along a diagonal of matrices are added in registers, one addition a
// share. Each sum goes to shared memory once, as rows `a` of a ring in which column t + a belongs
// to diagonal t: reading it along the diagonals is free of bank conflicts.

#include <algorithm>
#include <cmath>

#include "kernels/cuda_device.cuh"
#include "kernels/mma_sm80.cuh"
#include "kernels/vertical_slash/vertical_slash_cuda.h"

namespace kvasir::kernels {
namespace {

constexpr int kRows = 64;  // of a head
constexpr int kPage = static_cast<int>(kPageTokens);
constexpr int kStep = 32;  // keys that are scored at once
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kFewestPages = 16, kMostRanges = 256;
constexpr float kLog2E = 1.44269504088896340736f;

template <class Element, int kHeadDimension>
struct Cut {
  using T = Element;
  static constexpr int kHeadDim = kHeadDimension;
  static constexpr int kBlocksOfRows = kHeadDim <= 128 ? 2 : 1;  // of 16 rows, a warp
  static constexpr int kWarpRows = 16 * kBlocksOfRows;
  static constexpr int kHeads = kWarps * kWarpRows / kRows;
  static constexpr int kWarpsOfHead = kRows / kWarpRows;
  static constexpr int kSteps = kHeadDim / 16;
  static constexpr int kStages = kHeadDim <= 128 ? 4 : 3;
  static constexpr int kRowBytes = kHeadDim * 2 + 16;
  static constexpr int kStageBytes = kPage * kRowBytes;
  static constexpr int kKeyBytes = kStages * kStageBytes;
};

struct Params {
  CudaVerticalSlashArgs args;
  int group;        // heads of a KV head
  int most_ranges;  // of any span
  float scale_log2;
  float2* maxima;  // [units][most_ranges][group * 64]: maximum, sum of 2^(score - maximum)
  float* lse;      // [units][group * 64]: log2
  float* carries;  // [units][most_ranges][group * 64]
};

// What a block works on.
struct Task {
  CudaAttentionSpan span;
  int length;
  int first_page, pages;  // of the span's
  int rows;               // that are used: the last ones of 64
};

__host__ __device__ inline int pages_of(int64_t length) {
  return static_cast<int>((length + kPage - 1) / kPage);
}
// Of a range. By the span's own length, so that results do not depend on the batch.
__host__ __device__ inline int range_pages(int pages) {
  const int wanted = (pages + kMostRanges - 1) / kMostRanges;
  return wanted > kFewestPages ? wanted : kFewestPages;
}

// False where there is nothing to do.
__device__ __forceinline__ bool find_task(const Params& params, int unit, int range, Task& task) {
  task.span = params.args.spans[(params.args.first_unit + unit) / params.args.pages.kv_heads];
  task.length = task.span.query_offset + task.span.rows;
  const int pages = pages_of(task.length), count = range_pages(pages);
  task.first_page = range * count;
  task.pages = min(count, pages - task.first_page);
  task.rows = min(kRows, task.span.rows);
  return task.span.rows > 0 && task.pages > 0;
}

__device__ __forceinline__ bool is_estimated(const CudaVerticalSlashArgs& args, int head) {
  return args.heads == nullptr || args.heads[head].kind == HeadKind::kVerticalSlash;
}

// One warp's queries as operands of products: 16 x 16 at a time.
template <class C>
struct Queries {
  uint32_t values[C::kBlocksOfRows][C::kSteps][4];

  // `first_row` of the 64.
  __device__ __forceinline__ void load(const CudaVerticalSlashArgs& args, const Task& task,
                                       int head, int first_row) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row + block * 16 + half * 8 + lane / 4 - (kRows - task.rows);
        const auto* from =
            static_cast<const typename C::T*>(args.q) +
            (int64_t{task.span.first_row} + task.span.rows - task.rows + row) * args.q_row_stride +
            int64_t{head} * args.pages.head_dim + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < C::kSteps * 2; ++i) {
          const bool valid = row >= 0 && i * 8 < args.pages.head_dim;
          values[block][i / 2][i % 2 * 2 + half] =
              valid ? *reinterpret_cast<const uint32_t*>(from + i * 8) : 0;
        }
      }
  }
};

// The keys of a block's pages on their way through a ring of stages.
template <class C>
class Keys {
 public:
  __device__ __forceinline__ Keys(const CudaVerticalSlashArgs& args, const Task& task, int kv_head,
                                  uint32_t ring)
      : ring_(ring),
        page_bytes_(args.pages.page_bytes),
        base_(args.pages.base + int64_t{kv_head} * 2 * kPage * args.pages.head_dim * 2),
        table_(args.page_tables + task.span.first_page + task.first_page),
        pages_(task.pages),
        valid_rows_(task.length - task.first_page * kPage),
        chunks_(args.pages.head_dim / 8) {
    next_index_ = table_[0];
#pragma unroll 1
    for (int i = 0; i < C::kStages - 1; ++i) copy_next();
  }

  // Waits for page `index`, which is the next one, and returns where it lies. Everyone has left
  // the page before.
  __device__ __forceinline__ uint32_t wait(int index) {
    wait_for_copies<C::kStages - 2>();
    __syncthreads();
    copy_next();
    return ring_ + index % C::kStages * C::kStageBytes;
  }

 private:
  __device__ __forceinline__ void copy_next() {
    if (next_ < pages_) {
      const std::byte* page = base_ + int64_t{next_index_} * page_bytes_;
      copy(ring_ + next_ % C::kStages * C::kStageBytes, page, valid_rows_ - next_ * kPage);
      ++next_;
      if (next_ < pages_) next_index_ = table_[next_];
    }
    commit_copies();
  }
  __device__ __forceinline__ void copy(uint32_t to, const std::byte* page, int rows) const {
    constexpr int kChunks = C::kHeadDim / 8, kCopies = kPage * kChunks / kThreads;
    const int thread = static_cast<int>(threadIdx.x);
    if (rows >= kPage && chunks_ == kChunks) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        const int at = thread + i * kThreads;
        copy_async(to + (at + at / kChunks) * 16, page + at * 16);
      }
      return;
    }
#pragma unroll 1
    for (int at = thread; at < kPage * kChunks; at += kThreads) {
      const int row = at / kChunks, chunk = at % kChunks;
      const bool valid = row < rows && chunk < chunks_;
      copy_async_or_zero(to + (at + row) * 16, valid ? page + (row * chunks_ + chunk) * 16 : page,
                         valid);
    }
  }

  uint32_t ring_;
  int64_t page_bytes_;
  const std::byte* base_;
  const uint32_t* table_;
  int pages_, valid_rows_, chunks_;
  int next_ = 0;
  uint32_t next_index_;
};

template <class C>
using Scores = float[C::kBlocksOfRows][kStep / 8][4];

// Of a warp's rows and 32 keys that lie at `keys` (this lane's row of them).
template <class C>
__device__ __forceinline__ void score(Scores<C>& scores, const Queries<C>& queries, uint32_t keys) {
#pragma unroll
  for (int step = 0; step < C::kSteps; ++step)
#pragma unroll
    for (int pair = 0; pair < kStep / 16; ++pair) {
      uint32_t k[4];
      load_matrices(k, keys + pair * 16 * C::kRowBytes + step * 32);
#pragma unroll
      for (int block = 0; block < C::kBlocksOfRows; ++block) {
        float(&first)[4] = scores[block][2 * pair], (&second)[4] = scores[block][2 * pair + 1];
        if (step == 0) {
          multiply<typename C::T>(first, queries.values[block][0], k[0], k[1]);
          multiply<typename C::T>(second, queries.values[block][0], k[2], k[3]);
        } else {
          multiply_add<typename C::T>(first, queries.values[block][step], k[0], k[1]);
          multiply_add<typename C::T>(second, queries.values[block][step], k[2], k[3]);
        }
      }
    }
}

// `key` of the first of the 32, `position` of the warp's first row.
template <class C>
__device__ __forceinline__ void mask(Scores<C>& scores, int key, int position) {
  if (key + kStep - 1 <= position) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = position + block * 16 + j / 2 * 8 + lane / 4;
#pragma unroll
      for (int i = 0; i < kStep / 8; ++i)
        if (key + i * 8 + lane % 4 * 2 + j % 2 > row) scores[block][i][j] = -INFINITY;
    }
}

// Where a lane's row of keys begins for load_matrices, from the first of 16 keys.
template <class C>
__device__ __forceinline__ uint32_t key_lane() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return (lane % 8 + lane / 16 * 8) * C::kRowBytes + lane / 8 % 2 * 16;
}

// A warp's part in a block: some rows of one head. Inactive where the head is none to estimate.
template <class C>
struct Part {
  int head_of_group, first_row;
  bool is_active;

  __device__ __forceinline__ Part(const Params& params, int kv_head, int heads) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    head_of_group = heads * C::kHeads + warp / C::kWarpsOfHead;
    first_row = warp % C::kWarpsOfHead * C::kWarpRows;
    is_active = head_of_group < params.group &&
                is_estimated(params.args, kv_head * params.group + head_of_group);
  }
};

// --- Maxima and sums of each row over a range.

template <class C>
__global__ void __launch_bounds__(kThreads, C::kHeadDim <= 128 ? 2 : 1) find_maxima(Params params) {
  extern __shared__ __align__(128) std::byte shared[];
  wait_for_inputs();
  let_next_begin();
  const int unit = static_cast<int>(blockIdx.y);
  const int groups = (params.group + C::kHeads - 1) / C::kHeads;
  const int range = static_cast<int>(blockIdx.x) / groups;
  Task task;
  if (!find_task(params, unit, range, task)) return;
  const int kv_head = (params.args.first_unit + unit) % params.args.pages.kv_heads;
  const Part<C> part(params, kv_head, static_cast<int>(blockIdx.x) % groups);
  if (__syncthreads_or(part.is_active) == 0) return;

  Keys<C> keys(params.args, task, kv_head, shared_address(shared));
  Queries<C> queries;
  if (part.is_active)
    queries.load(params.args, task, kv_head * params.group + part.head_of_group, part.first_row);
  constexpr int kLaneRows = C::kBlocksOfRows * 2;
  float maxima[kLaneRows], sums[kLaneRows];
#pragma unroll
  for (int i = 0; i < kLaneRows; ++i) {
    maxima[i] = -INFINITY;
    sums[i] = 0;
  }
  const int position = task.length - kRows + part.first_row;
#pragma unroll 1
  for (int page = 0; page < task.pages; ++page) {
    const uint32_t rows = keys.wait(page) + key_lane<C>();
    if (!part.is_active) continue;
#pragma unroll
    for (int half = 0; half < kPage / kStep; ++half) {
      Scores<C> scores;
      score<C>(scores, queries, rows + half * kStep * C::kRowBytes);
      mask<C>(scores, (task.first_page + page) * kPage + half * kStep, position);
      // Every lane has a maximum and a sum of its own keys; they meet behind the last page.
#pragma unroll
      for (int i = 0; i < kLaneRows; ++i) {
        const auto& own = scores[i / 2];
        const int at = i % 2 * 2;
        float maximum = maxima[i];
#pragma unroll
        for (int j = 0; j < kStep / 8; ++j)
          maximum = fmaxf(maximum, fmaxf(own[j][at], own[j][at + 1]));
        const float zero = maximum == -INFINITY ? 0 : maximum;  // no key was visible yet
        if (maximum > maxima[i]) {
          sums[i] *= fast_exp2((maxima[i] - zero) * params.scale_log2);
          maxima[i] = maximum;
        }
        const float shift = zero * params.scale_log2;
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kStep / 8; ++j)
          sum += fast_exp2(fmaf(own[j][at], params.scale_log2, -shift)) +
                 fast_exp2(fmaf(own[j][at + 1], params.scale_log2, -shift));
        sums[i] += sum;
      }
    }
  }
  if (!part.is_active) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float2* out = params.maxima +
                (int64_t{unit} * params.most_ranges + range) * params.group * kRows +
                part.head_of_group * kRows + part.first_row + lane / 4;
#pragma unroll
  for (int i = 0; i < kLaneRows; ++i) {
    float maximum = fmaxf(maxima[i], __shfl_xor_sync(~0u, maxima[i], 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, 2));
    const float zero = maximum == -INFINITY ? 0 : maximum;
    float sum = sums[i] * fast_exp2((maxima[i] - zero) * params.scale_log2);
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (lane % 4 == 0) out[i * 8] = make_float2(maximum * params.scale_log2, sum);
  }
}

// --- The rows' logarithms, a warp each.

__global__ void __launch_bounds__(kThreads) merge_maxima(Params params) {
  wait_for_inputs();
  let_next_begin();
  const int unit = static_cast<int>(blockIdx.y), lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  Task task;
  if (!find_task(params, unit, 0, task)) return;
  const int kv_head = (params.args.first_unit + unit) % params.args.pages.kv_heads;
  if (!is_estimated(params.args, kv_head * params.group + row / kRows)) return;
  const int rows = params.group * kRows, pages = pages_of(task.length);
  const int ranges = (pages + range_pages(pages) - 1) / range_pages(pages);
  const float2* from = params.maxima + int64_t{unit} * params.most_ranges * rows + row;
  float2 own[kMostRanges / 32];
  float maximum = -INFINITY;
#pragma unroll
  for (int i = 0; i < kMostRanges / 32; ++i) {
    const int range = i * 32 + lane;
    own[i] = range < ranges ? from[int64_t{range} * rows] : make_float2(-INFINITY, 0);
    maximum = fmaxf(maximum, own[i].x);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kMostRanges / 32; ++i)
    if (own[i].y > 0) sum += own[i].y * exp2f(own[i].x - maximum);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  // Unused rows get no shares.
  if (lane == 0)
    params.lse[int64_t{unit} * rows + row] =
        row % kRows < kRows - task.rows ? INFINITY : maximum + log2f(sum);
}

// --- Shares.

constexpr int kRingColumns = 64, kRingStride = 72;  // strides of 8 mod 32 keep off bank conflicts
constexpr int kDiagonals = 256;                     // that a warp's sums wait among

// Sums of a warp over its rows, for the warps of the head to meet.
struct WarpSums {
  float ring[8][kRingStride];   // sums along diagonals of matrices, see above
  float diagonals[kDiagonals];  // [kappa mod 256], kappa from the range's first key
  float columns[2][kPage];      // of even and of odd pages
};

// The sums along diagonals that are under way in registers.
template <class C>
class Diagonals {
 public:
  static constexpr int kBlocks = C::kBlocksOfRows * 2;  // of 8 rows

  __device__ __forceinline__ Diagonals() {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) window_[i][0] = window_[i][1] = 0;
  }
  // Takes the shares of step `step` of the range. The diagonals of the 32 kappas from
  // 32 * step + the rows behind this warp's are complete then and written out.
  __device__ __forceinline__ void add(WarpSums& sums, const Scores<C>& shares, int step,
                                      int rows_behind) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* to = sums.ring[lane / 4] + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < kStep / 8; ++j) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        float(&window)[2] = window_[(j - block) & (kBlocks - 1)];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float share = shares[block / 2][j][block % 2 * 2 + e];
          window[e] = block == 0 ? share : window[e] + share;
        }
      }
      const float(&done)[2] = window_[(j + 1) & (kBlocks - 1)];
      const int column = (step * kStep + (j - kBlocks + 1) * 8) & (kRingColumns - 1);
      *reinterpret_cast<float2*>(to + column) = make_float2(done[0], done[1]);
    }
    __syncwarp();
    // Diagonal t has shares in columns t + a of rows a.
    const int t = step * kStep + lane + 1 - C::kWarpRows;
    float sum = 0;
#pragma unroll
    for (int a = 0; a < 8; ++a) sum += sums.ring[a][(t + a) & (kRingColumns - 1)];
    sums.diagonals[(step * kStep + lane + rows_behind) & (kDiagonals - 1)] = sum;
    __syncwarp();
  }

 private:
  float window_[kBlocks][2];
};

// Sums over the warp's rows, written to out[32].
template <class C>
__device__ __forceinline__ void add_columns(float* out, const Scores<C>& shares) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float sums[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    sums[i] = shares[0][i / 2][i % 2] + shares[0][i / 2][2 + i % 2];
#pragma unroll
    for (int block = 1; block < C::kBlocksOfRows; ++block)
      sums[i] += shares[block][i / 2][i % 2] + shares[block][i / 2][2 + i % 2];
  }
  // Over the eight lanes with the same columns; each goes on with half of what it has.
#pragma unroll
  for (int step = 0; step < 3; ++step) {
    const int count = 4 >> step;
    const bool is_upper = (lane & (16 >> step)) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= count) break;
      const float kept = is_upper ? sums[i + count] : sums[i];
      const float given = is_upper ? sums[i] : sums[i + count];
      sums[i] = kept + __shfl_xor_sync(~0u, given, 16 >> step);
    }
  }
  out[lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2] = sums[0];
}

// What the warps of each head have found in page `page` of the range, to device memory. With
// `page` behind the last one: the diagonals that go on in the next range.
template <class C>
__device__ __forceinline__ void write_page(const Params& params, const Task& task, int unit,
                                           int range, int kv_head, int heads, int page,
                                           const WarpSums* sums) {
  const CudaVerticalSlashArgs& args = params.args;
  for (int i = static_cast<int>(threadIdx.x); i < C::kHeads * kPage * 2; i += kThreads) {
    const int x = i % kPage, slot = i / kPage % C::kHeads;
    const bool is_column = i < C::kHeads * kPage;
    const int head = heads * C::kHeads + slot;
    if (head >= params.group || !is_estimated(args, kv_head * params.group + head)) continue;
    const WarpSums* own = sums + slot * C::kWarpsOfHead;
    const int64_t row = int64_t{unit} * params.group + head;
    const int key = (task.first_page + page) * kPage + x;
    float sum = 0;
    if (is_column) {
      if (page == task.pages || key >= task.length) continue;
#pragma unroll
      for (int warp = 0; warp < C::kWarpsOfHead; ++warp) sum += own[warp].columns[page % 2][x];
      args.column_sums[row * args.sums_row_stride + key] = sum;
      continue;
    }
#pragma unroll
    for (int warp = 0; warp < C::kWarpsOfHead; ++warp) {
      // Behind the last page a warp has written 32 more.
      const int ahead = (C::kWarpsOfHead - 1 - warp) * C::kWarpRows;
      if (page < task.pages || x < kStep + ahead)
        sum += own[warp].diagonals[(page * kPage + x) & (kDiagonals - 1)];
    }
    if (page == task.pages)
      params.carries[((int64_t{unit} * params.most_ranges + range) * params.group + head) * kPage +
                     x] = sum;
    else if (key < task.length)
      args.offset_sums[row * args.sums_row_stride + task.length - 1 - key] = sum;
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, C::kHeadDim <= 128 ? 2 : 1) sum_shares(Params params) {
  extern __shared__ __align__(128) std::byte shared[];
  auto* const sums = reinterpret_cast<WarpSums*>(shared + C::kKeyBytes);
  for (int i = static_cast<int>(threadIdx.x);
       i < kWarps * static_cast<int>(sizeof(WarpSums) / sizeof(float)); i += kThreads)
    reinterpret_cast<float*>(sums)[i] = 0;
  wait_for_inputs();
  let_next_begin();
  const int unit = static_cast<int>(blockIdx.y);
  const int groups = (params.group + C::kHeads - 1) / C::kHeads;
  const int range = static_cast<int>(blockIdx.x) / groups;
  const int heads = static_cast<int>(blockIdx.x) % groups;
  Task task;
  if (!find_task(params, unit, range, task)) return;
  const int kv_head = (params.args.first_unit + unit) % params.args.pages.kv_heads;
  const Part<C> part(params, kv_head, heads);
  if (__syncthreads_or(part.is_active) == 0) return;

  Keys<C> keys(params.args, task, kv_head, shared_address(shared));
  const int lane = static_cast<int>(threadIdx.x) % 32;
  WarpSums& own = sums[threadIdx.x / 32];
  Queries<C> queries;
  constexpr int kLaneRows = C::kBlocksOfRows * 2;
  float shifts[kLaneRows];
  if (part.is_active) {
    queries.load(params.args, task, kv_head * params.group + part.head_of_group, part.first_row);
    const float* lse =
        params.lse + (int64_t{unit} * params.group + part.head_of_group) * kRows + part.first_row;
#pragma unroll
    for (int i = 0; i < kLaneRows; ++i) shifts[i] = -lse[i * 8 + lane / 4];
  }
  Diagonals<C> diagonals;
  const int position = task.length - kRows + part.first_row;
  const int rows_behind = kRows - C::kWarpRows - part.first_row;
#pragma unroll 1
  for (int page = 0; page < task.pages; ++page) {
    const uint32_t rows = keys.wait(page) + key_lane<C>();
    if (page > 0) write_page<C>(params, task, unit, range, kv_head, heads, page - 1, sums);
    if (!part.is_active) continue;
#pragma unroll
    for (int half = 0; half < kPage / kStep; ++half) {
      Scores<C> shares;
      score<C>(shares, queries, rows + half * kStep * C::kRowBytes);
      mask<C>(shares, (task.first_page + page) * kPage + half * kStep, position);
#pragma unroll
      for (int block = 0; block < C::kBlocksOfRows; ++block)
#pragma unroll
        for (int i = 0; i < kStep / 8; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            shares[block][i][j] =
                fast_exp2(fmaf(shares[block][i][j], params.scale_log2, shifts[block * 2 + j / 2]));
      add_columns<C>(own.columns[page % 2] + half * kStep, shares);
      diagonals.add(own, shares, page * 2 + half, rows_behind);
    }
  }
  if (part.is_active) {
    const Scores<C> none = {};
    diagonals.add(own, none, task.pages * 2, rows_behind);
  }
  __syncthreads();
  write_page<C>(params, task, unit, range, kv_head, heads, task.pages - 1, sums);
  write_page<C>(params, task, unit, range, kv_head, heads, task.pages, sums);
}

// --- What ranges found on the diagonals of the keys behind them.

__global__ void __launch_bounds__(kPage) add_carries(Params params) {
  wait_for_inputs();
  let_next_begin();
  const int head = static_cast<int>(blockIdx.x) % params.group;
  const int range = static_cast<int>(blockIdx.x) / params.group + 1;
  const int unit = static_cast<int>(blockIdx.y);
  Task task;
  if (!find_task(params, unit, range, task)) return;
  const int kv_head = (params.args.first_unit + unit) % params.args.pages.kv_heads;
  if (!is_estimated(params.args, kv_head * params.group + head)) return;
  const int key = task.first_page * kPage + static_cast<int>(threadIdx.x);
  if (key >= task.length) return;
  float* offsets =
      params.args.offset_sums + (int64_t{unit} * params.group + head) * params.args.sums_row_stride;
  offsets[task.length - 1 - key] +=
      params.carries[((int64_t{unit} * params.most_ranges + range - 1) * params.group + head) *
                         kPage +
                     threadIdx.x];
}

// --- host

struct Layout {
  Layout(int group, int units, int64_t max_length) {
    const int pages = pages_of(max_length);
    most_ranges = std::max(1, std::min(kMostRanges, (pages + kFewestPages - 1) / kFewestPages));
    const size_t rows = static_cast<size_t>(units) * static_cast<size_t>(group) * kRows;
    lse = rows * static_cast<size_t>(most_ranges) * sizeof(float2);
    carries = lse + rows * sizeof(float);
    bytes = carries + rows * static_cast<size_t>(most_ranges) * sizeof(float);
  }
  int most_ranges;
  size_t lse, carries, bytes;
};

template <class C>
void run_cut(const cuda::Context& context, const Params& params) {
  const auto allow = [](auto kernel, int bytes) {
    KVASIR_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  };
  constexpr int kShareBytes = C::kKeyBytes + kWarps * static_cast<int>(sizeof(WarpSums));
  allow(find_maxima<C>, C::kKeyBytes);
  allow(sum_shares<C>, kShareBytes);
  const auto units = static_cast<unsigned>(params.args.units);
  const int groups = (params.group + C::kHeads - 1) / C::kHeads;
  const dim3 grid(static_cast<unsigned>(params.most_ranges * groups), units);
  launch(context, find_maxima<C>, grid, kThreads, C::kKeyBytes, params);
  launch(context, merge_maxima, dim3(static_cast<unsigned>(params.group * kRows / kWarps), units),
         kThreads, 0, params);
  launch(context, sum_shares<C>, grid, kThreads, kShareBytes, params);
  if (params.most_ranges > 1)
    launch(context, add_carries,
           dim3(static_cast<unsigned>((params.most_ranges - 1) * params.group), units), kPage, 0,
           params);
}

template <class T>
void run_type(const cuda::Context& context, const Params& params) {
  const int head_dim = params.args.pages.head_dim;
  if (head_dim <= 64)
    run_cut<Cut<T, 64>>(context, params);
  else if (head_dim <= 128)
    run_cut<Cut<T, 128>>(context, params);
  else
    run_cut<Cut<T, 256>>(context, params);
}

}  // namespace

size_t vertical_slash_workspace_bytes(int group_heads, int units, int64_t max_length) {
  return Layout(group_heads, units, max_length).bytes;
}

void run_vertical_slash(const cuda::Context& context, const CudaVerticalSlashArgs& args) {
  if (args.units == 0) return;
  const int group = args.q_heads / args.pages.kv_heads;
  const Layout layout(group, args.units, args.max_length);
  const Params params{.args = args,
                      .group = group,
                      .most_ranges = layout.most_ranges,
                      .scale_log2 = args.scale * kLog2E,
                      .maxima = reinterpret_cast<float2*>(args.workspace),
                      .lse = reinterpret_cast<float*>(args.workspace + layout.lse),
                      .carries = reinterpret_cast<float*>(args.workspace + layout.carries)};
  if (args.pages.dtype == DType::kBF16)
    run_type<bfloat16>(context, params);
  else
    run_type<float16>(context, params);
}

}  // namespace kvasir::kernels

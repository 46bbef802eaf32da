// Means of keys and queries, and which lines of blocks a head takes: whether the means stand for
// the last queries' attention, and else how many blocks hold their share of it.

#include <cmath>

#include "kernels/attention_planner/flexprefill_span.cuh"
#include "kernels/attention_planner/mean_products.cuh"
#include "kernels/attention_planner/score_row.cuh"
#include "kernels/vertical_slash/vertical_slash.h"

namespace kvasir::kernels::flexprefill {
namespace {

constexpr int kPage = static_cast<int>(kPageTokens);
constexpr int kEarlier = static_cast<int>(kEstimateQueries);  // queries of one estimate

constexpr int kSpanThreads = 256;
__global__ void __launch_bounds__(kSpanThreads)
    shorten(const CudaAttentionSpan* spans, int count, CudaAttentionSpan* shorter) {
  wait_for_inputs();
  let_next_begin();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSpanThreads) {
    CudaAttentionSpan span = spans[i];
    span.rows = max(0, span.rows - kEarlier);
    shorter[i] = span;
  }
}

// --- Means, an element of the head a thread; added in the CPU's order.

template <class T>
__global__ void mean_keys(Work work) {
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const PagePool& pages = work.args.pages;
  const int block = static_cast<int>(blockIdx.x), kv_head = static_cast<int>(blockIdx.y);
  if (span.empty() || block >= span.blocks) return;
  const int head_dim = pages.head_dim, element = static_cast<int>(threadIdx.x);
  const int count = min(kBlock, span.length - block * kBlock);
  float sum = 0;
  for (int first = 0; first < count; first += kPage) {
    const uint32_t page =
        work.args.page_tables[span.at.first_page + (block * kBlock + first) / kPage];
    const auto* keys = reinterpret_cast<const T*>(pages.base + int64_t{page} * pages.page_bytes) +
                       int64_t{kv_head} * 2 * kPage * head_dim + element;
    const int rows = min(kPage, count - first);
#pragma unroll 16
    for (int i = 0; i < rows; ++i) sum += to_float(keys[i * head_dim]);
  }
  work.key_means[((int64_t{kv_head} * (head_dim / 4) + element / 4) * work.most_blocks + block) *
                     4 +
                 element % 4] = sum / static_cast<float>(count);
}

template <class T>
__global__ void mean_queries(Work work) {
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const int tile = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int element = static_cast<int>(threadIdx.x), head_dim = work.args.pages.head_dim;
  const bool is_last = tile == work.most_tiles;
  const int first = is_last ? span.at.rows - span.last_queries : tile * kBlock;
  const int count = min(kBlock, span.at.rows - first);
  if (count <= 0) return;
  const T* q = static_cast<const T*>(work.args.q) +
               (int64_t{span.at.first_row} + first) * work.args.q_row_stride +
               int64_t{head} * head_dim + element;
  float sum = 0;
#pragma unroll 16
  for (int i = 0; i < count; ++i) sum += to_float(q[i * work.args.q_row_stride]);
  work.query_means[(int64_t{head} * (work.most_tiles + 1) + tile) * head_dim + element] =
      sum / static_cast<float>(count);
}

// --- Masses of lines. Sums of both estimates are brought together.

constexpr int kSumThreads = 256;
// Sums are kept halved: at most 64, as radix::mass_of takes them.
constexpr float kHalf = 0.5f;

// A warp a block of columns or a group of distances, which counts from the farthest on.
__global__ void __launch_bounds__(kSumThreads) sum_lines(Work work, Sums sums) {
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line =
      static_cast<int>(blockIdx.x) * (kSumThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int index = static_cast<int>(blockIdx.y);
  const bool is_columns = blockIdx.z == 0;
  if (span.empty() || line >= span.blocks) return;
  float* own = (is_columns ? sums.columns : sums.distances) + index * sums.row_stride;
  const float* before =
      (is_columns ? sums.columns_before : sums.distances_before) + index * sums.row_stride;
  const int shorter = span.at.rows > kEarlier ? span.length - kEarlier : 0;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kBlock / 32; ++i) {
    const int from_far = line * kBlock + i * 32 + lane;
    if (from_far >= span.length) break;
    const int at = is_columns ? from_far : span.length - 1 - from_far;
    float value = own[at];
    if (at < shorter) value += before[at];
    own[at] = value *= kHalf;
    sum += value;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (lane == 0)
    work.line_masses[(int64_t{sums.first_head + index} * 2 + blockIdx.z) * work.most_blocks +
                     line] = sum * (1 / kHalf) / static_cast<float>(span.last_queries);
}

// --- Whether a head is query-aware.

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;

// x * log(x / middle), to 0 as x goes to 0.
__device__ __forceinline__ double divergence(double x, double middle) {
  return x > 0 ? x * log(x / middle) : 0;
}

__global__ void __launch_bounds__(kThreads) decide(Work work, int first_head) {
  extern __shared__ __align__(16) float masses[];  // [most_blocks], as means estimate them
  __shared__ float mean[1][kMaxMeanDim];
  __shared__ double warp_values[kWarps];
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  if (span.empty()) return;
  const int head = first_head + static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x), head_dim = work.args.bounds.head_dim;
  HeadReport& report = work.args.plan.reports[int64_t{work.span} * work.args.bounds.q_heads + head];
  if (span.is_dense) {
    if (thread > 0) return;
    report.is_dense = 1;
    work.query_aware[head] = 0;
    return;
  }
  if (thread < head_dim) mean[0][thread] = query_mean(work, head, work.most_tiles)[thread];
  __syncthreads();
  multiply_means<1, kThreads>(head_dim, span.blocks, key_means(work, head), work.most_blocks, mean,
                              masses);
  softmax<kThreads>(masses, span.blocks, work.args.scale, warp_values);
  const float* exact = work.line_masses + int64_t{head} * 2 * work.most_blocks;
  double sum = 0;
  for (int block = thread; block < span.blocks; block += kThreads) {
    const double p = masses[block], q = exact[block], middle = (p + q) / 2;
    sum += divergence(p, middle) + divergence(q, middle);
  }
  sum = block_sum<kThreads>(sum, warp_values);
  if (thread > 0) return;
  const bool is_query_aware = sqrt(fmax(0.0, sum / 2)) < work.args.tau;
  work.query_aware[head] = report.is_query_aware = is_query_aware ? 1 : 0;
}

// --- How many lines are taken, and which.

using Row = radix::ScoreRow<kThreads>;

template <class Group>
struct SelectShared {
  union {
    radix::Shared<Group, kThreads, true> mass;
    radix::Shared<OneBlock, kThreads, false> count;
  };
  uint64_t warp_sums[kWarps];
  uint64_t of_blocks[Group::kBlocks];
  uint32_t equals[kWarps];
};

// As many blocks as the fewest keys that hold the share would fill, and one.
template <class Group>
__device__ int blocks_of_share(const Work& work, const Span& span, const Row& row,
                               SelectShared<Group>& shared) {
  uint64_t all = 0;
  row.for_each([&](int i, float score) {
    if (i < row.length) all += radix::mass_of(score);
  });
  all = radix::block_sum<kThreads>(all, shared.warp_sums);
  if (threadIdx.x < Group::kBlocks)
    *Group::at(&shared.of_blocks[Group::rank()], static_cast<int>(threadIdx.x)) = all;
  Group::sync();
  all = 0;
  for (int block = 0; block < Group::kBlocks; ++block) all += shared.of_blocks[block];
  const auto wanted =
      min(all, static_cast<uint64_t>(ceil(work.args.gamma * static_cast<double>(all))));
  uint32_t keys = 0;
  if (wanted > 0)
    radix::find_threshold<true>(
        shared.mass, wanted,
        [&](auto&& use) { row.for_each([&](int i, float score) { use(row.key(i, score)); }); },
        &keys);
  return static_cast<int>(keys) / kBlock + 1;
}

// The bits of the `count` highest of the span's lines, `forced` first of all.
template <class Group>
__device__ void take_lines(const Span& span, const float* masses, int forced, int count,
                           SelectShared<Group>& shared, uint32_t* bits) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const auto key = [&](int line) {
    if (line >= span.blocks) return radix::kNone;
    return radix::key_of(line == forced ? INFINITY : masses[line]);
  };
  const radix::Threshold threshold =
      count >= span.blocks ? radix::Threshold{radix::kNone, 0}
                           : radix::find_threshold<false>(
                                 shared.count, static_cast<uint64_t>(count), [&](auto&& use) {
                                   for (int first = 0; first < span.blocks; first += kThreads)
                                     use(key(first + static_cast<int>(threadIdx.x)));
                                 });
  const int words = (span.blocks + 31) / 32, own_words = (words + kWarps - 1) / kWarps;
  const int first = warp * own_words, last = min(words, first + own_words);
  uint32_t equal = 0;
  for (int word = first; word < last; ++word)
    equal += __popc(__ballot_sync(~0u, key(word * 32 + lane) == threshold.key));
  if (lane == 0) shared.equals[warp] = equal;
  __syncthreads();
  uint32_t before = 0;
  for (int i = 0; i < warp; ++i) before += shared.equals[i];
  for (int word = first; word < last; ++word) {
    const uint32_t own = key(word * 32 + lane);
    const uint32_t ties = __ballot_sync(~0u, own == threshold.key);
    const uint32_t rank = before + __popc(ties & ((1u << lane) - 1));
    const uint32_t taken =
        __ballot_sync(~0u, own > threshold.key || (own == threshold.key && rank < threshold.equal));
    if (lane == 0) bits[word] = taken;
    before += __popc(ties);
  }
}

template <class Group>
__device__ __forceinline__ void select(const Work& work, const Sums& sums) {
  __shared__ SelectShared<Group> shared;
  wait_for_inputs();
  let_next_begin();
  const Span span(work);
  if (span.empty() || span.is_dense) return;
  const int index = static_cast<int>(blockIdx.x) / Group::kBlocks;
  const int head = sums.first_head + index, kind = static_cast<int>(blockIdx.y);
  const int fewest = min(work.args.min_blocks, span.blocks);
  int count = fewest;
  if (work.query_aware[head] == 0) {
    count = span.blocks;
    if (work.args.gamma < 1) {
      const int part = Row::part_of(span.length, Group::kBlocks);
      const Row row{.scores = (kind == 0 ? sums.columns : sums.distances) + index * sums.row_stride,
                    .length = span.length,
                    .forced = 0,
                    .first = Group::rank() * part,
                    .last = min(span.length, (Group::rank() + 1) * part)};
      count = min(span.blocks, max(fewest, blocks_of_share<Group>(work, span, row, shared)));
    }
  }
  if (Group::rank() != 0) return;
  __syncthreads();
  const int64_t place = int64_t{head} * 2 + kind;
  take_lines<Group>(span, work.line_masses + place * work.most_blocks,
                    kind == 0 ? 0 : span.blocks - 1, count, shared,
                    work.lines + place * ((work.most_blocks + 31) / 32));
}

__global__ void __launch_bounds__(kThreads) select_by_block(Work work, Sums sums) {
  select<OneBlock>(work, sums);
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__global__ void __launch_bounds__(kThreads) __cluster_dims__(Cluster::kBlocks, 1, 1)
    select_by_cluster(Work work, Sums sums) {
  select<Cluster>(work, sums);
}
#else
__global__ void select_by_cluster(Work, Sums) {}
#endif

template <class T>
void run_type(const cuda::Context& context, const Work& work) {
  const FlexPrefillBounds& bounds = work.args.bounds;
  const auto threads = static_cast<unsigned>(bounds.head_dim);
  launch(context, mean_keys<T>,
         dim3(static_cast<unsigned>(work.most_blocks), static_cast<unsigned>(bounds.kv_heads)),
         threads, 0, work);
  launch(context, mean_queries<T>,
         dim3(static_cast<unsigned>(work.most_tiles + 1), static_cast<unsigned>(bounds.q_heads)),
         threads, 0, work);
}

}  // namespace

void shorten_spans(const cuda::Context& context, const CudaAttentionSpan* spans, int count,
                   CudaAttentionSpan* shorter) {
  launch(context, shorten, 1, kSpanThreads, 0, spans, count, shorter);
}

void run_means(const cuda::Context& context, const Work& work) {
  if (work.args.pages.dtype == DType::kBF16)
    run_type<bfloat16>(context, work);
  else
    run_type<float16>(context, work);
}

void run_lines(const cuda::Context& context, const Work& work, const Sums& sums) {
  constexpr int kLines = kSumThreads / 32;
  const auto heads = static_cast<unsigned>(sums.heads);
  launch(context, sum_lines,
         dim3(static_cast<unsigned>((work.most_blocks + kLines - 1) / kLines), heads, 2),
         kSumThreads, 0, work, sums);
  launch(context, decide, heads, kThreads, static_cast<size_t>(work.most_blocks) * sizeof(float),
         work, sums.first_head);
  // Code for clusters exists for 9.0 alone (see KvasirCuda.cmake).
  if (context.compute_capability == 90 && work.args.bounds.max_length >= radix::kLongRow)
    launch(context, select_by_cluster, dim3(heads * Cluster::kBlocks, 2), kThreads, 0, work, sums);
  else
    launch(context, select_by_block, dim3(heads, 2), kThreads, 0, work, sums);
}

}  // namespace kvasir::kernels::flexprefill

#include "kernels/paged_attention/decode_attention.cuh"

namespace kvasir::kernels {
namespace {

using namespace decode;

constexpr int kBuildThreads = 1024;

// The sum of `value` over the threads before this one, and over all of them.
__device__ __forceinline__ int2 sum_before(int value, int (&of_warps)[32]) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto inclusive = [&](int sum) {
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int below = __shfl_up_sync(kAllLanes, sum, offset);
      if (lane >= offset) sum += below;
    }
    return sum;
  };
  const int in_warp = inclusive(value);
  if (lane == 31) of_warps[warp] = in_warp;
  __syncthreads();
  const int total = inclusive(of_warps[lane]);
  const int before = warp == 0 ? 0 : __shfl_sync(kAllLanes, total, max(warp - 1, 0));
  const int all = __shfl_sync(kAllLanes, total, 31);
  __syncthreads();
  return {before + in_warp - value, all};
}

__device__ __forceinline__ DecodeSpan span_of(const CudaAttentionSpan& span, int64_t window) {
  const int position = span.query_offset;
  if (position < 0)  // no keys: one unit that no warp has part in, for the result of 0
    return {.first_row = span.first_row, .pages = 1, .last_key = -1};
  const int64_t before = window > 0 ? position - window + 1 : 0;
  const int lowest = before > 0 ? static_cast<int>(before) : 0;
  constexpr int kTokens = static_cast<int>(kPageTokens);
  return {.first_row = span.first_row,
          .first_page = span.first_page + lowest / kTokens,
          .pages = position / kTokens - lowest / kTokens + 1,
          .first_key = static_cast<int16_t>(lowest % kTokens),
          .last_key = static_cast<int16_t>(position % kTokens)};
}

// One block: spans are few.
__global__ void __launch_bounds__(kBuildThreads) build(DecodeArgs args, int blocks) {
  __shared__ int of_warps[32];
  wait_for_inputs();
  const CudaAttentionArgs& attention = args.attention;
  const DecodePlan& plan = args.plan;
  const int thread = static_cast<int>(threadIdx.x);
  int pages = 0, count = 0;
  for (int begin = 0; begin < attention.span_count; begin += kBuildThreads) {
    DecodeSpan span;
    if (begin + thread < attention.span_count) {
      const CudaAttentionSpan given = attention.spans[begin + thread];
      if (given.rows > 0) span = span_of(given, attention.window);
    }
    const int2 pages_before = sum_before(span.pages, of_warps);
    const int2 spans_before = sum_before(span.pages > 0, of_warps);
    if (span.pages > 0) {
      plan.spans[count + spans_before.x] = span;
      plan.pages_before[count + spans_before.x] = pages + pages_before.x;
    }
    pages += pages_before.y;
    count += spans_before.y;
  }
  const int heads = attention.pages.kv_heads * args.tiles;
  const int64_t units = int64_t{pages} * heads;
  const int busy = units < blocks ? static_cast<int>(units) : blocks;
  if (thread == 0) {
    plan.spans[count] = plan.spans[count + 1] = {};
    plan.pages_before[count] = pages;
  }
  __syncthreads();

  for (int block = thread; block < blocks; block += kBuildThreads) {
    plan.tickets[block] = 0;
    if (block >= busy) {
      plan.starts[block] = {};
      continue;
    }
    const int64_t first = units * block / busy, end = units * (block + 1) / busy;
    int low = 0, high = count;  // the last span that begins at `first` or before
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (int64_t{plan.pages_before[middle]} * heads <= first ? low : high) = middle;
    }
    const DecodeSpan span = plan.spans[low];
    const auto unit = static_cast<int>(first - int64_t{plan.pages_before[low]} * heads);
    plan.starts[block] = {.span = span,
                          .index = low,
                          .head = unit / span.pages,
                          .page = unit % span.pages,
                          .units = static_cast<int>(end - first),
                          .all_units = units,
                          .blocks = busy};
  }
  // Runs read the plan before they wait.
  __threadfence();
  __syncthreads();
  let_next_begin();
}

// Every lane copies 16 bytes at a time; a slot is a group of copies.
template <int kSteps, int kStages>
class VectorCopy {
 public:
  struct Source {};
  static constexpr int kBarrierBytes = 0;

  __device__ __forceinline__ VectorCopy(const DecodeArgs& args, const Source&, std::byte* ring,
                                        std::byte*, int warp, int lane)
      : pages_(args.attention.pages),
        row_(lane / 8),
        chunk_(lane % 8),
        from_((warp * kWarpKeys + row_) * pages_.head_dim * 2 + chunk_ * 16),
        ring_(shared_address(ring)) {}

  __device__ __forceinline__ void begin(int slot, uint32_t page, int kv_head) {
    const int piece_bytes = static_cast<int>(kPageTokens) * pages_.head_dim * 2;
    const std::byte* from = pages_.base + int64_t{page} * pages_.page_bytes +
                            int64_t{kv_head} * 2 * piece_bytes + from_;
    const uint32_t to = ring_ + slot * slot_bytes<kSteps>();
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll
      for (int slice = 0; slice < kSteps / 4; ++slice)
#pragma unroll
        for (int i = 0; i < kWarpKeys / 4; ++i) {
          const uint32_t row = row_ + i * 4, chunk = (chunk_ ^ row % 8) * 16;
          const int bytes = slice * 64 + chunk_ * 8 < pages_.head_dim ? 16 : 0;  // else zeros
          asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                           to + (part * (kSteps / 4) + slice) * kSliceBytes + row * 128 + chunk),
                       "l"(from + part * piece_bytes + i * 4 * pages_.head_dim * 2 + slice * 128),
                       "r"(bytes)
                       : "memory");
        }
    skip();
  }
  __device__ __forceinline__ void skip() { asm volatile("cp.async.commit_group;" ::: "memory"); }
  __device__ __forceinline__ void wait(int, uint32_t) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 1) : "memory");
    __syncwarp();
  }

 private:
  PagePool pages_;
  int row_, chunk_;
  int64_t from_;
  uint32_t ring_;
};

constexpr int kBlocksPerMultiprocessor = 2;

}  // namespace

int decode_blocks_sm80(int) { return kBlocksPerMultiprocessor; }

void launch_build_decode_attention(const cuda::Context& context, const DecodeArgs& args,
                                   int blocks) {
  launch(context, build, 1, kBuildThreads, 0, args, blocks);
}

void launch_decode_attention_sm80(const cuda::Context& context, const DecodeArgs& args,
                                  int blocks) {
  with_shape(args, [&]<class T, int kSteps, int kTiles>() {
    // Shared memory for two blocks on an A100, and for one on GPUs that have 99 KB of it.
    constexpr int kStages = 16 / kSteps;
    launch_attend<T, kSteps, kTiles, kStages, kBlocksPerMultiprocessor,
                  VectorCopy<kSteps, kStages>>(context, args, blocks, {});
  });
}

}  // namespace kvasir::kernels

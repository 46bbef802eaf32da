#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/decode_attention_plan.h"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 1024;

// x: the sum of `value` over the threads before this one; y: over all of them.
__device__ __forceinline__ int2 sum_before(int value, int (&of_warps)[32]) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto running_sum = [&](int sum) {
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int below = __shfl_up_sync(~0u, sum, offset);
      if (lane >= offset) sum += below;
    }
    return sum;
  };
  const int in_warp = running_sum(value);
  if (lane == 31) of_warps[warp] = in_warp;
  __syncthreads();
  const int of_warps_to_lane = running_sum(of_warps[lane]);
  __syncthreads();
  const int before = __shfl_sync(~0u, of_warps_to_lane, max(warp - 1, 0));
  return {(warp == 0 ? 0 : before) + in_warp - value, __shfl_sync(~0u, of_warps_to_lane, 31)};
}

__device__ __forceinline__ DecodeSpan span_of(const CudaAttentionSpan& span, int64_t window) {
  constexpr int kTokens = static_cast<int>(kPageTokens);
  const int position = span.query_offset;
  if (position < 0)  // one unit that no warp has part in, for the result of 0
    return {.first_row = span.first_row, .pages = 1};
  const int64_t begin = window > 0 ? position - window + 1 : 0;
  const int lowest = begin > 0 ? static_cast<int>(begin) : 0;
  return {.first_row = span.first_row,
          .first_page = span.first_page + lowest / kTokens,
          .pages = position / kTokens - lowest / kTokens + 1,
          .first_key = static_cast<int16_t>(lowest % kTokens),
          .last_key = static_cast<int16_t>(position % kTokens)};
}

// The order of units, as one block of threads sees it once the spans are listed.
struct Order {
  const DecodePlan& plan;
  int64_t units;
  int spans, heads, blocks;  // blocks that have units

  struct Place {
    int index, head, page;
    DecodeSpan span;
  };

  __device__ int64_t begin(int block) const { return units * block / blocks; }
  __device__ int owner(int64_t unit) const {
    return static_cast<int>(((unit + 1) * blocks - 1) / units);
  }
  __device__ Place place(int64_t unit) const {
    int low = 0, high = spans;  // the last span that begins at `unit` or before
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (int64_t{plan.pages_before[middle]} * heads <= unit ? low : high) = middle;
    }
    const DecodeSpan span = plan.spans[low];
    const auto within = static_cast<int>(unit - int64_t{plan.pages_before[low]} * heads);
    return {low, within / span.pages, within % span.pages, span};
  }
  // Of the segment that `unit` belongs to.
  __device__ DecodeShare share(const Place& place, int64_t unit) const {
    const int first = owner(unit - place.page);
    return {first, owner(unit - place.page + place.span.pages - 1) - first + 1};
  }
};

// One block: spans are few.
__global__ void __launch_bounds__(kThreads) build(DecodeArgs args, int blocks) {
  __shared__ int of_warps[32];
  wait_for_inputs();
  const CudaAttentionArgs& attention = args.attention;
  const DecodePlan& plan = args.plan;
  const int thread = static_cast<int>(threadIdx.x);
  int pages = 0, spans = 0;
  for (int begin = 0; begin < attention.span_count; begin += kThreads) {
    DecodeSpan span;
    if (begin + thread < attention.span_count) {
      const CudaAttentionSpan given = attention.spans[begin + thread];
      if (given.rows > 0) span = span_of(given, attention.window);
    }
    const int2 pages_before = sum_before(span.pages, of_warps);
    const int2 spans_before = sum_before(span.pages > 0, of_warps);
    if (span.pages > 0) {
      plan.spans[spans + spans_before.x] = span;
      plan.pages_before[spans + spans_before.x] = pages + pages_before.x;
    }
    pages += pages_before.y;
    spans += spans_before.y;
  }
  if (thread == 0) plan.spans[spans] = plan.spans[spans + 1] = {};
  __syncthreads();

  const int heads = attention.pages.kv_heads * args.tiles;
  const int64_t units = int64_t{pages} * heads;
  const int64_t most = (units + kLeastUnitsOfABlock - 1) / kLeastUnitsOfABlock;
  const Order order{plan, units, spans, heads, most < blocks ? static_cast<int>(most) : blocks};
  for (int block = thread; block < blocks; block += kThreads) {
    plan.tickets[block] = plan.group_tickets[2 * block] = plan.group_tickets[2 * block + 1] = 0;
    if (block >= order.blocks) {
      plan.starts[block] = {};
      continue;
    }
    const int64_t first = order.begin(block), last = order.begin(block + 1) - 1;
    const Order::Place place = order.place(first);
    plan.starts[block] = {.span = place.span,
                          .index = place.index,
                          .head = place.head,
                          .page = place.page,
                          .units = static_cast<int>(last - first + 1),
                          .first_share = order.share(place, first),
                          .last_share = order.share(order.place(last), last)};
  }
  // Runs read the plan before they wait for the kernels before them: none of those begins earlier
  // than this.
  __threadfence();
  __syncthreads();
  let_next_begin();
}

}  // namespace

void launch_build_decode_attention(const cuda::Context& context, const DecodeArgs& args,
                                   int blocks) {
  launch(context, build, 1, kThreads, 0, args, blocks);
}

}  // namespace kvasir::kernels

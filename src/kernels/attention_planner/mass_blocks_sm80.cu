#include "kernels/attention_planner/mass_blocks_cuda.h"
#include "kernels/attention_planner/radix_select.cuh"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kBlock = 128;   // keys, and queries of a row tile
constexpr int kBitKeys = 64;  // of a bit of the plan
constexpr int kBlocksOfWord = 32 * kBitKeys / kBlock;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// A head's place in the plan.
struct Place {
  CudaAttentionSpan span;
  int64_t head;
  int length, words;

  __device__ __forceinline__ Place(const MassBlocksArgs& args, int head_index)
      : span(args.spans[args.span]),
        head(int64_t{args.span} * args.q_heads + head_index),
        length(span.query_offset + span.rows),
        words((length + 2047) / 2048) {}
};

using Shared = radix::Shared<OneBlock, kThreads, true>;

// Two bits for each of 16 blocks.
__device__ __forceinline__ uint32_t spread(uint32_t blocks) {
  blocks = (blocks | blocks << 8) & 0x00ff00ffu;
  blocks = (blocks | blocks << 4) & 0x0f0f0f0fu;
  blocks = (blocks | blocks << 2) & 0x33333333u;
  blocks = (blocks | blocks << 1) & 0x55555555u;
  return blocks | blocks << 1;
}

// A row tile of a head.
__global__ void __launch_bounds__(kThreads) select(MassBlocksArgs args) {
  __shared__ Shared shared;
  __shared__ uint32_t equals[kWarps];
  wait_for_inputs();
  let_next_begin();
  const int head = static_cast<int>(blockIdx.y);
  const int tile = args.first_tile + static_cast<int>(blockIdx.x);
  const Place place(args, head);
  const int position = place.span.query_offset + tile * kBlock;
  if (tile * kBlock >= place.span.rows) return;
  const int end = min(place.length, position + kBlock);
  const int visible = (end - 1) / kBlock + 1, first_own = position / kBlock;
  const float* masses =
      args.masses + (int64_t{head} * args.tiles + blockIdx.x) * args.mass_row_stride;
  const auto is_forced = [&](int block) { return block == 0 || block >= first_own; };
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;

  const float share = args.shares[head];
  radix::Threshold threshold{~0u, 0};  // nothing beside what is forced
  if (share >= 1) {
    threshold = {radix::kNone, 0};
  } else {
    uint64_t all = 0, forced = 0;
    for (int block = thread; block < visible; block += kThreads) {
      const uint64_t mass = radix::mass_of(masses[block]);
      all += mass;
      if (is_forced(block)) forced += mass;
    }
    all = radix::block_sum<kThreads>(all, shared.warp_sums);
    forced = radix::block_sum<kThreads>(forced, shared.warp_sums);
    __syncthreads();
    const double wanted = ceil(double{share} * static_cast<double>(all));
    if (wanted > static_cast<double>(forced))
      threshold = radix::find_threshold<true>(
          shared, min(static_cast<uint64_t>(wanted), all) - forced, [&](auto&& use) {
            for (int first = 0; first < visible; first += kThreads) {
              const int block = first + thread;
              use(block < visible && !is_forced(block) ? radix::key_of(masses[block])
                                                       : radix::kNone);
            }
          });
  }

  // A lane a block, two words of the plan at once.
  const auto key = [&](int block) {
    return block < visible && !is_forced(block) ? radix::key_of(masses[block]) : radix::kNone;
  };
  const int steps = (place.words + 1) / 2, own_steps = (steps + kWarps - 1) / kWarps;
  const int first = warp * own_steps, last = min(steps, first + own_steps);
  const bool has_ties = threshold.equal > 0;
  uint32_t equal = 0;
  if (has_ties)
    for (int step = first; step < last; ++step)
      equal += __popc(__ballot_sync(~0u, key(step * 32 + lane) == threshold.key));
  if (lane == 0) equals[warp] = equal;
  __syncthreads();
  uint32_t before = 0;
  for (int i = 0; i < warp; ++i) before += equals[i];
  uint32_t* bits =
      args.plan.block_bits + place.head * args.plan.head_words + int64_t{tile} * place.words;
  int64_t keys = 0;
  for (int step = first; step < last; ++step) {
    const int block = step * 32 + lane;
    const uint32_t own = key(block);
    const uint32_t ties = __ballot_sync(~0u, has_ties && own == threshold.key);
    const uint32_t rank = before + __popc(ties & ((1u << lane) - 1));
    const bool is_taken = block < visible && (is_forced(block) || own > threshold.key ||
                                              (own == threshold.key && rank < threshold.equal));
    before += __popc(ties);
    if (is_taken) keys += min(kBlock, end - block * kBlock);
    const uint32_t taken = __ballot_sync(~0u, is_taken);
    const int word = step * 2 + lane;
    if (lane >= 2 || word >= place.words) continue;
    // Of the last block that is seen the second half may not be.
    uint32_t out = spread(taken >> lane * kBlocksOfWord & 0xffff);
    const int bits_left = (end - 1) / kBitKeys + 1 - word * 32;
    if (bits_left < 32) out &= bits_left <= 0 ? 0 : (1u << bits_left) - 1;
    bits[word] = out;
  }
  keys = static_cast<int64_t>(
      radix::block_sum<kThreads>(static_cast<uint64_t>(keys), shared.warp_sums));
  if (thread != 0) return;
  HeadReport& report = args.plan.reports[place.head];
  const int64_t rows = end - position;
  atomicAdd(reinterpret_cast<unsigned long long*>(&report.pairs),
            static_cast<unsigned long long>(rows * keys));
  atomicAdd(reinterpret_cast<unsigned long long*>(&report.dense_pairs),
            static_cast<unsigned long long>(rows * end));
}

}  // namespace

void run_mass_blocks(const cuda::Context& context, const MassBlocksArgs& args) {
  if (args.tiles == 0) return;
  launch(context, select,
         dim3(static_cast<unsigned>(args.tiles), static_cast<unsigned>(args.q_heads)), kThreads, 0,
         args);
}

}  // namespace kvasir::kernels

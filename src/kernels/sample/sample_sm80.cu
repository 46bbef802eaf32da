// One draw is the work of one team: a cluster of blocks where there are clusters, else one block.
// The row is read from memory once; later looks at it find it in the caches.

#include "base/check.h"
#include "kernels/sample/sample_select.cuh"

namespace kvasir::kernels {
namespace {

using namespace sampling;

template <class Group>
struct Shared {
  Parts<Group> parts;
  Histogram histogram;
  double powers[Weights::kTableSize];
  double sums_of_warps[kWarps];
  int reached, last;  // threads
  int top_count;
  uint64_t top[kMaxTopLogprobs];
};

// The best token of a row, and whether the row is fit to be drawn from.
struct Best {
  float logit;
  float score;     // after penalties
  uint32_t token;  // with that score
  int fault;
};

template <class Group>
class Chooser {
 public:
  __device__ Chooser(Shared<Group>& shared, const SampleArgs& args, const SampleDraw& draw)
      : shared_(shared),
        team_(shared.parts, args.vocab),
        vocab_(static_cast<uint32_t>(args.vocab)),
        draw_(draw),
        choice_(args.choices[blockIdx.x / Group::kBlocks]),
        row_{args.logits + draw.row * args.vocab, nullptr, team_.first_token(team_.slot()),
             team_.end_token(team_.slot())} {}

  __device__ void run() {
    const bool is_penalised = draw_.seen != nullptr || draw_.counts != nullptr;
    const int top = draw_.top;
    const double temperature = draw_.temperature;
    if (top >= 0 || temperature != 0) Weights::fill(shared_.powers);
    const Best best = is_penalised ? find_best<true>() : find_best<false>();
    if (is_leader()) choice_.fault = best.fault;
    if (best.fault != 0) {
      if (is_leader()) choice_.token = 0;
      return;
    }
    double log_total = 0;
    if (top >= 0) log_total = find_logprobs(best.logit, min(top, kMaxTopLogprobs));
    if (temperature == 0) {
      if (is_leader()) choose(best.token, log_total);
      return;
    }
    if (is_penalised) row_.penalties = &draw_;
    const Weights weights(shared_.powers, best.score, temperature);
    const uint64_t lowest = lowest_of_filters(best.score, temperature, weights);
    draw_by_weight(Leading(lowest), Weights(shared_.powers, best.score, temperature, draw_.min_p),
                   log_total);
  }

 private:
  __device__ bool is_leader() const { return Group::rank() == 0 && threadIdx.x == 0; }

  template <bool kIsPenalised>
  __device__ Best find_best() {
    float logit_best = -INFINITY, score_best = -INFINITY;
    uint32_t token_best = kLargestId;
    bool is_broken = false;
    row_.for_each<kIsPenalised ? 2 : 8>([&](Four four) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        is_broken |= !(four.values[i] < INFINITY);
        if (kIsPenalised) logit_best = fmaxf(logit_best, four.values[i]);
      }
      if (kIsPenalised) four = penalised(draw_, four, vocab_);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (four.values[i] > score_best) {
          score_best = four.values[i];
          token_best = four.token + i;
        }
    });
    if (!kIsPenalised) logit_best = score_best;
    Part part{warp_max(place_of(score_best, token_best)),
              __reduce_max_sync(kFullWarp, key_of(logit_best))};
    if (__any_sync(kFullWarp, is_broken)) part.second = ~uint64_t{0};
    Group::wait();  // for all blocks to have begun, see choose_token()
    team_.share(part);

    part = {};
    for (int i = 0; i < team_.kSlotsOfLane; ++i) {
      const Part other = team_.part_of_lane(i);
      part.first = max(part.first, other.first);
      part.second = max(part.second, other.second);
    }
    part = {warp_max(part.first), warp_max(part.second)};
    Best best{.logit = value_of(static_cast<uint32_t>(part.second)),
              .score = score_of(part.first),
              .token = token_of(part.first),
              .fault = 0};
    if (part.second == ~uint64_t{0}) {
      best.fault = 1;
    } else if (best.logit == -INFINITY) {
      best.fault = 2;
    }
    return best;
  }

  __device__ void share_sum(double sum_of_lane) {
    team_.share({static_cast<uint64_t>(__double_as_longlong(warp_sum(sum_of_lane))), 0});
  }
  __device__ double sum_of_slot(int i) const {
    return __longlong_as_double(static_cast<long long>(team_.part_of_lane(i).first));
  }
  // The same bits for all warps.
  __device__ double sum_of_team(double sum_of_lane) {
    share_sum(sum_of_lane);
    double sum = 0;
    for (int i = 0; i < team_.kSlotsOfLane; ++i) sum += sum_of_slot(i);
    return warp_sum(sum);
  }

  // The logarithm of the sum of exponentials of all logits; the most likely tokens into the choice.
  __device__ double find_logprobs(float best, int top) {
    const Weights weights(shared_.powers, best, 1);
    const double log_total = best + log(sum_of_team(sum_of_lane(row_, Leading(), weights)));
    if (top == 0) return log_total;
    uint64_t lowest = 0;
    if (top < vocab_)
      lowest = lowest_place<Group, false>(shared_.histogram, row_, Leading(), weights, best,
                                          {.amount = static_cast<uint64_t>(top),
                                           .range = Weights::kFarthest,
                                           .looks_beyond = true});
    const Leading leading(lowest);
    row_.for_each<1>([&](const Four& four) {
      for (int i = 0; i < 4; ++i) {
        const uint32_t token = four.token + i;
        if (token >= vocab_ || !leading.has(four.values[i], token)) continue;
        const int at = atomicAdd(Group::at(&shared_.top_count, 0), 1);
        *Group::at(&shared_.top[at], 0) = place_of(four.values[i], token);
      }
    });
    Group::sync();
    const int count = shared_.top_count, lane = team_.lane();
    if (Group::rank() != 0 || team_.warp() != 0 || lane >= count) return log_total;
    const uint64_t place = shared_.top[lane];
    int rank = 0;
    for (int i = 0; i < count; ++i) rank += shared_.top[i] > place;
    choice_.top_tokens[rank] = static_cast<int32_t>(token_of(place));
    choice_.top_logprobs[rank] = static_cast<float>(score_of(place) - log_total);
    return log_total;
  }

  // The lowest place that top-k and top-p leave.
  __device__ uint64_t lowest_of_filters(float best, double temperature, const Weights& weights) {
    const int64_t top_k = draw_.top_k;
    const double top_p = draw_.top_p;
    uint64_t lowest = 0;
    if (top_k > 0 && top_k < vocab_)
      lowest = lowest_place<Group, false>(shared_.histogram, row_, Leading(), weights, best,
                                          {.amount = static_cast<uint64_t>(top_k),
                                           .range = Weights::kFarthest * temperature,
                                           .looks_beyond = false});
    if (top_p >= 1) return lowest;
    const Leading leading(lowest);
    const double total = sum_of_team(sum_of_lane(row_, leading, weights));
    // Tokens below the mean share of what may be left out are not needed to reach top_p.
    const double farthest =
        fmin(Weights::kFarthest, -log((1 - top_p) * total / vocab_) * (1 + 1e-5) + 1e-5);
    const double wanted = fmax(1.0, ceil(top_p * total * kWeightUnit));
    return max(lowest, lowest_place<Group, true>(shared_.histogram, row_, leading, weights, best,
                                                 {.amount = __double2ull_rn(wanted),
                                                  .range = farthest * temperature,
                                                  .looks_beyond = false}));
  }

  // Draws in the order of tokens: first a slot by the sums of all, then in it a token.
  __device__ void draw_by_weight(const Leading& leading, const Weights& weights, double log_total) {
    share_sum(sum_of_lane(row_, leading, weights));

    constexpr int kSlotsOfLane = Team<Group>::kSlotsOfLane;
    double sums[kSlotsOfLane], sum_of_lane = 0;
#pragma unroll
    for (int i = 0; i < kSlotsOfLane; ++i) sum_of_lane += sums[i] = sum_of_slot(i);
    const double through = warp_scan(sum_of_lane, team_.lane());
    const double wanted = __shfl_sync(kFullWarp, through, 31) * draw_.uniform;
    double before = __shfl_up_sync(kFullWarp, through, 1);
    if (team_.lane() == 0) before = 0;
    // The lane's slot in which `wanted` is reached, else its last one with any weight: rounding can
    // let all of them miss what is wanted.
    int slot = -1;
    bool is_reached = false;
    double left = 0;
#pragma unroll
    for (int i = 0; i < kSlotsOfLane; ++i) {
      if (sums[i] == 0 || is_reached) continue;
      slot = team_.slot_of_lane(i);
      left = wanted - before;
      before += sums[i];
      is_reached = before > wanted;
    }
    const uint32_t reached = __ballot_sync(kFullWarp, is_reached);
    const uint32_t any = __ballot_sync(kFullWarp, slot >= 0);
    const int lane =
        reached != 0 ? __ffs(static_cast<int>(reached)) - 1 : 31 - __clz(static_cast<int>(any));
    slot = __shfl_sync(kFullWarp, slot, lane);
    left = fmax(0.0, __shfl_sync(kFullWarp, left, lane));
    if (slot / kWarps == Group::rank())
      draw_from_slot(static_cast<uint32_t>(slot), left, leading, weights, log_total);
  }

  // By the whole block: consecutive tokens for each thread.
  __device__ void draw_from_slot(uint32_t slot, double left, const Leading& leading,
                                 const Weights& weights, double log_total) {
    const uint32_t first = team_.first_token(slot), end = team_.end_token(slot);
    const uint32_t tokens_of_thread = (end - first + kThreads - 1) / kThreads;
    const uint32_t own = first + threadIdx.x * tokens_of_thread;
    const uint32_t own_end = min(own + tokens_of_thread, end);
    const auto own_weight = [&](uint32_t token) {
      const float score = row_.score(token);
      return leading.has(score, token) ? weights(score) : 0;
    };
    double sum = 0;
    for (uint32_t token = own; token < own_end; ++token) sum += own_weight(token);
    const double through = warp_scan(sum, team_.lane());
    double before = __shfl_up_sync(kFullWarp, through, 1);
    if (team_.lane() == 0) before = 0;
    if (team_.lane() == 31) shared_.sums_of_warps[team_.warp()] = through;
    __syncthreads();
    for (int warp = 0; warp < team_.warp(); ++warp) before += shared_.sums_of_warps[warp];

    const uint32_t any = __ballot_sync(kFullWarp, sum > 0);
    const uint32_t reached = __ballot_sync(kFullWarp, sum > 0 && before + sum > left);
    const int warp_start = team_.warp() * 32;
    if (team_.lane() == 0 && any != 0)
      atomicMax(&shared_.last, warp_start + 31 - __clz(static_cast<int>(any)));
    if (team_.lane() == 0 && reached != 0)
      atomicMin(&shared_.reached, warp_start + __ffs(static_cast<int>(reached)) - 1);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) != min(shared_.reached, shared_.last)) return;
    uint32_t chosen = 0;
    for (uint32_t token = own; token < own_end; ++token) {
      const double weight = own_weight(token);
      if (weight == 0) continue;
      chosen = token;
      before += weight;
      if (before > left) break;
    }
    choose(chosen, log_total);
  }

  __device__ void choose(uint32_t token, double log_total) {
    choice_.token = static_cast<int32_t>(token);
    if (draw_.top >= 0) choice_.logprob = static_cast<float>(row_.logits[token] - log_total);
  }

  Shared<Group>& shared_;
  Team<Group> team_;
  const uint32_t vocab_;
  const SampleDraw& draw_;
  SampleChoice& choice_;
  Row row_;  // the warp's own tokens
};

template <class Group>
__device__ void choose_token(const SampleArgs& args) {
  __shared__ Shared<Group> shared;
  shared.histogram.clear(static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) {
    shared.reached = kThreads;
    shared.last = -1;
    shared.top_count = 0;
  }
  Group::arrive();
  wait_for_inputs();
  let_next_begin();
  Chooser<Group>(shared, args, args.draws[blockIdx.x / Group::kBlocks]).run();
}

__global__ void __launch_bounds__(kThreads, 1024 / kThreads) sample_by_block(SampleArgs args) {
  choose_token<OneBlock>(args);
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__global__ void __launch_bounds__(kThreads, 1024 / kThreads)
    __cluster_dims__(Cluster::kBlocks, 1, 1) sample_by_cluster(SampleArgs args) {
  choose_token<Cluster>(args);
}
#else
__global__ void sample_by_cluster(SampleArgs) {}
#endif

}  // namespace

void run_sample(const cuda::Context& context, const SampleArgs& args) {
  KVASIR_CHECK(args.vocab > 0 && args.vocab <= kLargestSampledVocab);
  if (args.count == 0) return;
  const auto teams = static_cast<unsigned>(args.count);
  // Code for clusters exists for 9.0 alone (see KvasirCuda.cmake).
  if (context.compute_capability == 90)
    launch(context, sample_by_cluster, teams * Cluster::kBlocks, kThreads, 0, args);
  else
    launch(context, sample_by_block, teams, kThreads, 0, args);
}

}  // namespace kvasir::kernels

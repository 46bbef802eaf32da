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
  int top_count;
  uint64_t top[kMaxTopLogprobs];
};

// The best tokens of a row, and whether it is fit to be drawn from.
struct Best {
  float logit;
  float score;     // after penalties
  uint32_t token;  // with that score
  int fault;
};

template <class Group>
class Chooser {
 public:
  __device__ Chooser(Shared<Group>& shared, const SampleArgs& args)
      : shared_(shared),
        team_(shared.parts, args.vocab),
        vocab_(static_cast<uint32_t>(args.vocab)),
        draw_(args.draws[blockIdx.x / Group::kBlocks]),
        choice_(args.choices[blockIdx.x / Group::kBlocks]),
        logits_(args.logits + draw_.row * args.vocab),
        penalties_{draw_.seen, draw_.counts, draw_.repetition_penalty, draw_.presence_penalty,
                   draw_.frequency_penalty} {}

  __device__ void run() {
    const Best best = penalties_.any() ? find_best<true>() : find_best<false>();
    if (is_leader()) choice_.fault = best.fault;
    if (best.fault != 0) {
      if (is_leader()) choice_.token = 0;
      return;
    }
    const bool has_logprobs = draw_.top >= 0;
    double log_total = 0;
    if (has_logprobs) {
      log_total = best.logit + log(sum_of_exponentials(best.logit));
      if (draw_.top > 0) rank_top(best.logit, log_total);
    }
    if (draw_.temperature == 0) {
      if (is_leader()) choose(best.token, log_total);
      return;
    }
    const Weights weights(best.score, draw_.temperature);
    uint64_t lowest = 0;
    if (draw_.top_k > 0 && draw_.top_k < vocab_) lowest = lowest_of_top_k(best.score);
    if (draw_.top_p < 1) lowest = max(lowest, lowest_of_top_p(best.score, weights, lowest));
    choose_by_weight(weights, lowest, log_total);
  }

 private:
  __device__ bool is_leader() const { return Group::rank() == 0 && threadIdx.x == 0; }

  // use(score, token) for the lane's tokens.
  template <class Use>
  __device__ void for_each_score(Use&& use) const {
    const bool is_penalised = penalties_.any();
    for_each_logit<2>(logits_, team_.first_token, team_.end_token, team_.lane(),
                      [&](uint32_t token, float logit) {
                        use(is_penalised ? penalties_.apply(logit, token) : logit, token);
                      });
  }

  template <bool kIsPenalised>
  __device__ Best find_best() {
    float logit_best = -INFINITY, score_best = -INFINITY;
    uint32_t token_best = kLargestId;
    bool is_broken = false;
    for_each_logit<8>(logits_, team_.first_token, team_.end_token, team_.lane(),
                      [&](uint32_t token, float logit) {
                        is_broken |= !(logit < INFINITY);
                        if (kIsPenalised) logit_best = fmaxf(logit_best, logit);
                        const float score = kIsPenalised ? penalties_.apply(logit, token) : logit;
                        if (score > score_best) {
                          score_best = score;
                          token_best = token;
                        }
                      });
    if (!kIsPenalised) logit_best = score_best;
    Part part{warp_max(place_of(score_best, token_best)),
              __reduce_max_sync(kFullWarp, key_of(logit_best))};
    if (__any_sync(kFullWarp, is_broken)) part.second = ~uint64_t{0};
    team_.share(part);

    part = {};
    for (int i = 0; i < team_.kSlotsOfLane; ++i) {
      const Part other = team_.part_of_lane(i);
      part.first = max(part.first, other.first);
      part.second = max(part.second, other.second);
    }
    part = {warp_max(part.first), warp_max(part.second)};
    Best best{.logit = value_of(static_cast<uint32_t>(part.second)),
              .score = value_of(static_cast<uint32_t>(part.first >> kIdBits)),
              .token = token_of(part.first),
              .fault = 0};
    if (part.second == ~uint64_t{0}) {
      best.fault = 1;
    } else if (best.logit == -INFINITY) {
      best.fault = 2;
    }
    return best;
  }

  // The sum over all warps, in the order of their tokens; the same bits for all of them.
  __device__ double sum_of_team(double sum_of_lane) {
    team_.share({static_cast<uint64_t>(__double_as_longlong(warp_sum(sum_of_lane))), 0});
    double sum = 0;
    for (int i = 0; i < team_.kSlotsOfLane; ++i)
      sum += __longlong_as_double(static_cast<long long>(team_.part_of_lane(i).first));
    return warp_sum(sum);
  }

  __device__ double sum_of_exponentials(float best) {
    double sum = 0;
    for_each_logit<2>(logits_, team_.first_token, team_.end_token, team_.lane(),
                      [&](uint32_t, float logit) {
                        sum += exp(static_cast<double>(logit) - static_cast<double>(best));
                      });
    return sum_of_team(sum);
  }

  __device__ void rank_top(float best, double log_total) {
    const auto for_each = [&](auto&& use) {
      for_each_logit<2>(logits_, team_.first_token, team_.end_token, team_.lane(),
                        [&](uint32_t token, float logit) { use(logit, token); });
    };
    const auto wanted = static_cast<uint32_t>(min(draw_.top, kMaxTopLogprobs));
    uint64_t lowest = 0;
    if (wanted < vocab_)
      lowest =
          Selection<Group, false>(shared_.histogram, team_)
              .lowest(best, kFarthest, wanted, true, for_each, [](float) { return uint64_t{1}; });
    for_each([&](float logit, uint32_t token) {
      const uint64_t place = place_of(logit, token);
      if (place < lowest) return;
      const int at = atomicAdd(Group::at(&shared_.top_count, 0), 1);
      *Group::at(&shared_.top[at], 0) = place;
    });
    Group::sync();
    if (Group::rank() != 0 || team_.warp() != 0) return;
    const int count = shared_.top_count;
    const uint64_t place = team_.lane() < count ? shared_.top[team_.lane()] : 0;
    int rank = 0;
    for (int i = 0; i < count; ++i) rank += shared_.top[i] > place;
    if (team_.lane() >= count) return;
    choice_.top_tokens[rank] = static_cast<int32_t>(token_of(place));
    choice_.top_logprobs[rank] =
        static_cast<float>(value_of(static_cast<uint32_t>(place >> kIdBits)) - log_total);
  }

  __device__ uint64_t lowest_of_top_k(float best) {
    return Selection<Group, false>(shared_.histogram, team_)
        .lowest(
            best, kFarthest * draw_.temperature, static_cast<uint64_t>(draw_.top_k), false,
            [&](auto&& use) { for_each_score(use); }, [](float) { return uint64_t{1}; });
  }

  __device__ uint64_t lowest_of_top_p(float best, const Weights& weights, uint64_t lowest) {
    double sum = 0;
    for_each_score([&](float score, uint32_t token) {
      if (place_of(score, token) >= lowest) sum += weights(score);
    });
    const double total = sum_of_team(sum);
    // Tokens below the mean share of what may be left out are not needed to reach top_p.
    const double farthest =
        fmin(kFarthest, -log((1 - draw_.top_p) * total / vocab_) * (1 + 1e-5) + 1e-5);
    const auto wanted =
        max(uint64_t{1}, static_cast<uint64_t>(ceil(draw_.top_p * total * kWeightUnit)));
    return Selection<Group, true>(shared_.histogram, team_)
        .lowest(
            best, farthest * draw_.temperature, wanted, false,
            [&](auto&& use) {
              for_each_score([&](float score, uint32_t token) {
                if (place_of(score, token) >= lowest) use(score, token);
              });
            },
            [&](float score) {
              return static_cast<uint64_t>(__double2ull_rn(weights(score) * kWeightUnit));
            });
  }

  // Draws in the order of tokens: first a warp, by the sums of all, then in it a token.
  __device__ void choose_by_weight(const Weights& weights, uint64_t lowest, double log_total) {
    const double min_p = draw_.min_p;
    const auto weight_of = [&](float score, uint32_t token) {
      if (place_of(score, token) < lowest) return 0.0;
      const double weight = weights(score);
      return weight < min_p ? 0.0 : weight;
    };
    double sum = 0;
    for_each_score([&](float score, uint32_t token) { sum += weight_of(score, token); });
    team_.share({static_cast<uint64_t>(__double_as_longlong(warp_sum(sum))), 0});

    double sums[Team<Group>::kSlotsOfLane], sum_of_lane = 0;
#pragma unroll
    for (int i = 0; i < team_.kSlotsOfLane; ++i) {
      sums[i] = __longlong_as_double(static_cast<long long>(team_.part_of_lane(i).first));
      sum_of_lane += sums[i];
    }
    const double through = warp_scan(sum_of_lane, team_.lane());
    const double wanted = __shfl_sync(kFullWarp, through, 31) * draw_.uniform;
    double before = __shfl_up_sync(kFullWarp, through, 1);
    if (team_.lane() == 0) before = 0;
    // The slot of the lane in which `wanted` is reached, else its last one with any weight:
    // rounding can let the last lane with weight miss what is wanted.
    int chosen = -1;
    bool is_reached = false;
    double before_chosen = 0;
#pragma unroll
    for (int i = 0; i < team_.kSlotsOfLane; ++i) {
      if (sums[i] == 0 || is_reached) continue;
      chosen = team_.slot_of_lane(i);
      before_chosen = before;
      before += sums[i];
      is_reached = before > wanted;
    }
    const uint32_t reached = __ballot_sync(kFullWarp, is_reached);
    const uint32_t any = __ballot_sync(kFullWarp, chosen >= 0);
    const int lane = reached != 0 ? __ffs(static_cast<int>(reached)) - 1 : 31 - __clz(any);
    chosen = __shfl_sync(kFullWarp, chosen, lane);
    before_chosen = __shfl_sync(kFullWarp, before_chosen, lane);
    if (static_cast<uint32_t>(chosen) == team_.slot())
      choose_in_warp(fmax(0.0, wanted - before_chosen), weight_of, log_total);
  }

  template <class WeightOf>
  __device__ void choose_in_warp(double left, WeightOf&& weight_of, double log_total) {
    const bool is_penalised = penalties_.any();
    uint32_t last = 0;  // token with any weight, of all lanes
    for (uint32_t tile = team_.first_token; tile < team_.end_token; tile += 128) {
      double weights[4] = {}, sum = 0;
      const uint32_t first = tile + team_.lane() * 4;
      for (uint32_t j = 0; j < 4; ++j) {
        const uint32_t token = first + j;
        if (token >= team_.end_token) continue;
        const float logit = logits_[token];
        weights[j] = weight_of(is_penalised ? penalties_.apply(logit, token) : logit, token);
        sum += weights[j];
      }
      const double through = warp_scan(sum, team_.lane());
      double before = __shfl_up_sync(kFullWarp, through, 1);
      if (team_.lane() == 0) before = 0;
      uint32_t token = last;
      bool is_reached = false;
      for (uint32_t j = 0; j < 4; ++j) {
        if (weights[j] == 0 || is_reached) continue;
        token = first + j;
        before += weights[j];
        is_reached = before > left;
      }
      const uint32_t reached = __ballot_sync(kFullWarp, is_reached);
      const uint32_t any = __ballot_sync(kFullWarp, sum != 0);
      if (reached != 0) {
        last = __shfl_sync(kFullWarp, token, __ffs(static_cast<int>(reached)) - 1);
        break;
      }
      if (any != 0) last = __shfl_sync(kFullWarp, token, 31 - __clz(static_cast<int>(any)));
      left -= __shfl_sync(kFullWarp, through, 31);
    }
    if (team_.lane() == 0) choose(last, log_total);
  }

  __device__ void choose(uint32_t token, double log_total) {
    choice_.token = static_cast<int32_t>(token);
    if (draw_.top >= 0) choice_.logprob = static_cast<float>(logits_[token] - log_total);
  }

  Shared<Group>& shared_;
  Team<Group> team_;
  const uint32_t vocab_;
  const SampleDraw& draw_;
  SampleChoice& choice_;
  const float* logits_;
  const Penalties penalties_;
};

template <class Group>
__device__ void choose_token(const SampleArgs& args) {
  __shared__ Shared<Group> shared;
  shared.histogram.clear(static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) shared.top_count = 0;
  // No block reaches into another one before that has begun.
  Group::sync();
  wait_for_inputs();
  let_next_begin();
  Chooser<Group>(shared, args).run();
}

__global__ void __launch_bounds__(kThreads, 2) sample_by_block(SampleArgs args) {
  choose_token<OneBlock>(args);
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__global__ void __launch_bounds__(kThreads, 2) __cluster_dims__(Cluster::kBlocks, 1, 1)
    sample_by_cluster(SampleArgs args) {
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

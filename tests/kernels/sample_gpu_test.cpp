// Tokens chosen on a GPU against the rules restated plainly: full sorts and sums in double, one
// step after the other.

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/gpu.h"
#include "kernels/sample/sample_cuda.h"

namespace kvasir {
namespace {

using kernels::SampleChoice;
using kernels::SampleDraw;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What a draw needs besides its options; where the device keeps it is filled in by the test.
struct Problem {
  SampleDraw draw;
  std::vector<uint8_t> seen;
  std::vector<int32_t> counts;
};

std::vector<float> scores_of(std::span<const float> logits, const Problem& problem) {
  std::vector<float> scores(logits.begin(), logits.end());
  const SampleDraw& draw = problem.draw;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (logits[i] == -kInfinity) continue;
    double score = logits[i];
    if (!problem.seen.empty() && problem.seen[i])
      score = score < 0 ? score * draw.repetition_penalty : score / draw.repetition_penalty;
    if (!problem.counts.empty() && problem.counts[i] > 0)
      score -= draw.presence_penalty + draw.frequency_penalty * problem.counts[i];
    scores[i] = static_cast<float>(std::clamp(score, -double{FLT_MAX}, double{FLT_MAX}));
  }
  return scores;
}

// Tokens, most likely first, ties by id.
std::vector<int32_t> order_of(std::span<const float> scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  return order;
}

// What each token weighs after all filters.
std::vector<double> weights_of(std::span<const float> logits, const Problem& problem) {
  const SampleDraw& draw = problem.draw;
  const std::vector<float> scores = scores_of(logits, problem);
  std::vector<double> weights(scores.size());
  if (draw.temperature == 0) {
    weights[std::ranges::max_element(scores) - scores.begin()] = 1;
    return weights;
  }
  const std::vector<int32_t> order = order_of(scores);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = std::exp((double{scores[i]} - scores[order[0]]) / draw.temperature);
  if (draw.top_k > 0)
    for (size_t i = static_cast<size_t>(draw.top_k); i < order.size(); ++i) weights[order[i]] = 0;
  if (draw.top_p < 1) {
    const double wanted = draw.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
    double mass = 0;
    for (const int32_t token : order) {
      if (mass >= wanted) weights[token] = 0;
      mass += weights[token];
    }
  }
  for (double& weight : weights)
    if (weight < draw.min_p) weight = 0;
  return weights;
}

int32_t token_of(std::span<const double> weights, double uniform) {
  double left = std::accumulate(weights.begin(), weights.end(), 0.0) * uniform;
  int32_t chosen = -1;
  for (int32_t token = 0; token < std::ssize(weights); ++token) {
    if (weights[token] == 0) continue;
    chosen = token;
    left -= weights[token];
    if (left < 0) break;
  }
  return chosen;
}

// On every test: both implementations where the GPU has clusters.
class Sample : public testing::GpuTest {
 protected:
  std::vector<SampleChoice> run(std::span<const float> logits, int64_t vocab,
                                const std::vector<Problem>& problems, bool by_block = false) {
    const testing::DeviceArray<float> logits_on_device(logits);
    std::vector<uint8_t> seen;
    std::vector<int32_t> counts;
    for (const Problem& each : problems) {
      seen.insert(seen.end(), each.seen.begin(), each.seen.end());
      counts.insert(counts.end(), each.counts.begin(), each.counts.end());
    }
    const testing::DeviceArray<uint8_t> seen_on_device(seen);
    const testing::DeviceArray<int32_t> counts_on_device(counts);
    const uint8_t* next_seen = seen_on_device.data();
    const int32_t* next_counts = counts_on_device.data();
    std::vector<SampleDraw> draws;
    for (const Problem& each : problems) {
      draws.push_back(each.draw);
      if (!each.seen.empty()) draws.back().seen = std::exchange(next_seen, next_seen + vocab);
      if (!each.counts.empty())
        draws.back().counts = std::exchange(next_counts, next_counts + vocab);
    }
    const testing::DeviceArray<SampleDraw> draws_on_device(draws);
    const testing::DeviceArray<SampleChoice> choices(draws.size());
    cuda::Context context = context_;
    if (by_block) context.compute_capability = 80;
    kernels::run_sample(context, {.logits = logits_on_device.data(),
                                  .vocab = vocab,
                                  .draws = draws_on_device.data(),
                                  .count = std::ssize(draws),
                                  .choices = choices.data()});
    return choices.read();
  }

  // Every draw chooses the token, and finds the log-probabilities, that the rules say.
  void expect_choices(std::span<const float> logits, int64_t vocab,
                      const std::vector<Problem>& problems) {
    std::vector<int32_t> expected;
    for (const Problem& each : problems)
      expected.push_back(token_of(weights_of(logits.subspan(each.draw.row * vocab, vocab), each),
                                  each.draw.uniform));
    for (const bool by_block : {false, true}) {
      SCOPED_TRACE(by_block ? "by block" : "by cluster");
      const std::vector<SampleChoice> choices = run(logits, vocab, problems, by_block);
      for (size_t i = 0; i < problems.size(); ++i) {
        const SampleDraw& draw = problems[i].draw;
        SCOPED_TRACE(::testing::Message()
                     << "draw " << i << ": row " << draw.row << ", temperature " << draw.temperature
                     << ", top_k " << draw.top_k << ", top_p " << draw.top_p << ", min_p "
                     << draw.min_p << ", top " << draw.top << ", uniform " << draw.uniform);
        const auto row = logits.subspan(draw.row * vocab, vocab);
        ASSERT_EQ(choices[i].fault, 0);
        ASSERT_EQ(choices[i].token, expected[i]);
        if (draw.top >= 0) expect_logprobs(row, draw.top, choices[i]);
      }
    }
  }

  static void expect_logprobs(std::span<const float> row, int top, const SampleChoice& choice) {
    const std::vector<int32_t> order = order_of(row);
    const double best = row[order[0]];
    double sum = 0;
    for (const float logit : row) sum += std::exp(logit - best);
    const double total = best + std::log(sum);
    ASSERT_NEAR(choice.logprob, row[choice.token] - total, 1e-6 * (1 + std::abs(total)));
    for (int i = 0; i < std::min<int>(top, std::ssize(row)); ++i) {
      ASSERT_EQ(choice.top_tokens[i], order[i]) << "place " << i;
      const float expected = static_cast<float>(row[order[i]] - total);
      if (std::isfinite(expected))
        ASSERT_NEAR(choice.top_logprobs[i], expected, 1e-6 * (1 + std::abs(total)));
      else
        ASSERT_EQ(choice.top_logprobs[i], expected);
    }
  }
};

using SampleFull = Sample;

// Distributions that engines meet and that selections fail at.
enum class Shape { kPeaked, kFlat, kTies, kMasked, kEqual, kTiny, kWide, kCount };

std::vector<float> random_row(std::mt19937_64& random, int64_t vocab, Shape shape) {
  std::normal_distribution<float> normal;
  std::vector<float> row(vocab);
  for (float& logit : row) {
    logit = normal(random);
    switch (shape) {
      case Shape::kPeaked:
        logit *= 3.5f;
        break;
      case Shape::kFlat:
        logit *= 0.1f;
        break;
      case Shape::kTies:
        logit = std::round(logit * 2);  // -0 among them
        break;
      case Shape::kMasked:
        logit = random() % 3 ? -kInfinity : logit * 2;
        break;
      case Shape::kEqual:
        logit = -1.5f;
        break;
      case Shape::kTiny:
        logit *= 1e-40f;
        break;
      case Shape::kWide:
        logit *= 1e37f;
        break;
      case Shape::kCount:
        break;
    }
  }
  if (shape == Shape::kMasked) row[random() % vocab] = 1;
  return row;
}

SampleDraw random_draw(std::mt19937_64& random, int64_t rows, int64_t vocab) {
  const auto one_of = [&](auto... values) {
    const double all[] = {static_cast<double>(values)...};
    return all[random() % std::size(all)];
  };
  SampleDraw draw;
  draw.row = static_cast<int64_t>(random() % rows);
  draw.temperature = one_of(0, 0.3, 0.7, 1, 1, 2.5);
  draw.top_k = static_cast<int64_t>(one_of(0, 0, 1, 7, 40, 1000, vocab / 2, vocab, vocab + 5));
  draw.top_p = one_of(1, 1, 1e-9, 0.3, 0.9, 0.95, 0.999);
  draw.min_p = one_of(0, 0, 0, 0.02, 0.4);
  draw.uniform = static_cast<double>(random() >> 11) * 0x1p-53;
  draw.top = static_cast<int>(one_of(-1, -1, 0, 1, 5, 32));
  return draw;
}

TEST_F(Sample, GreedyTakesTheFirstOfTheBest) {
  RecordProperty("seed", 1);
  std::mt19937_64 random(1);
  for (const int64_t vocab : {1, 3, 4, 31, 127, 128, 129, 1000, 8191})
    for (const Shape shape : {Shape::kPeaked, Shape::kTies, Shape::kMasked, Shape::kEqual}) {
      SCOPED_TRACE(::testing::Message() << "vocabulary " << vocab << ", shape " << int(shape));
      std::vector<float> logits;
      std::vector<Problem> problems(3);
      for (int64_t row = 0; row < 3; ++row) {
        const std::vector<float> next = random_row(random, vocab, shape);
        logits.insert(logits.end(), next.begin(), next.end());
        problems[row].draw.row = row;
      }
      expect_choices(logits, vocab, problems);
    }
}

TEST_F(Sample, FiltersAndLogprobs) {
  RecordProperty("seed", 2);
  std::mt19937_64 random(2);
  for (const int64_t vocab : {1, 2, 5, 130, 2048, 8191})
    for (int shape = 0; shape < static_cast<int>(Shape::kCount); ++shape) {
      SCOPED_TRACE(::testing::Message() << "vocabulary " << vocab << ", shape " << shape);
      std::vector<float> logits;
      constexpr int64_t kRows = 2;
      for (int64_t row = 0; row < kRows; ++row) {
        const std::vector<float> next = random_row(random, vocab, static_cast<Shape>(shape));
        logits.insert(logits.end(), next.begin(), next.end());
      }
      std::vector<Problem> problems(24);
      for (Problem& each : problems) each.draw = random_draw(random, kRows, vocab);
      expect_choices(logits, vocab, problems);
    }
}

TEST_F(Sample, Penalties) {
  RecordProperty("seed", 3);
  std::mt19937_64 random(3);
  for (const int64_t vocab : {7, 1001, 8192})
    for (const Shape shape : {Shape::kPeaked, Shape::kTies, Shape::kMasked, Shape::kWide}) {
      SCOPED_TRACE(::testing::Message() << "vocabulary " << vocab << ", shape " << int(shape));
      const std::vector<float> logits = random_row(random, vocab, shape);
      std::vector<Problem> problems(16);
      for (Problem& each : problems) {
        each.draw = random_draw(random, 1, vocab);
        each.draw.repetition_penalty = random() % 4 ? 1.3 : 1e300;
        each.draw.presence_penalty = random() % 4 ? 0.7 : -1e300;
        each.draw.frequency_penalty = random() % 4 ? 0.1 : -0.3;
        if (random() % 3) each.seen.resize(vocab);
        if (random() % 3) each.counts.resize(vocab);
        for (uint8_t& seen : each.seen) seen = random() % 2;
        for (int32_t& count : each.counts) count = static_cast<int32_t>(random() % 4);
      }
      expect_choices(logits, vocab, problems);
    }
}

TEST_F(Sample, ExtremeTemperaturesAndUniforms) {
  RecordProperty("seed", 4);
  std::mt19937_64 random(4);
  constexpr int64_t kVocab = 1000;
  for (const Shape shape : {Shape::kPeaked, Shape::kTies, Shape::kMasked, Shape::kTiny}) {
    const std::vector<float> logits = random_row(random, kVocab, shape);
    std::vector<Problem> problems;
    for (const double temperature : {5e-324, 1e-300, 1e-12, 1e12, 1e300, DBL_MAX})
      for (const double uniform : {0.0, 0.5, 1 - 0x1p-53})
        for (const double top_p : {1.0, 0.5})
          problems.push_back(
              {.draw = {.temperature = temperature, .top_p = top_p, .uniform = uniform},
               .seen = {},
               .counts = {}});
    expect_choices(logits, kVocab, problems);
  }
}

TEST_F(Sample, LogitsThatAreNoNumbers) {
  constexpr int64_t kVocab = 1000, kRows = 5;
  std::vector<float> logits(kRows * kVocab, 0.5f);
  logits[0 * kVocab + 999] = NAN;
  logits[1 * kVocab + 0] = kInfinity;
  std::fill_n(logits.begin() + 2 * kVocab, kVocab, -kInfinity);
  std::fill_n(logits.begin() + 3 * kVocab, kVocab, -kInfinity);
  logits[3 * kVocab + 500] = -NAN;
  std::vector<Problem> problems;
  for (int64_t row = 0; row < kRows; ++row)
    for (const double temperature : {0.0, 1.0})
      problems.push_back({.draw = {.row = row, .temperature = temperature, .top_p = 0.9, .top = 2},
                          .seen = std::vector<uint8_t>(row % 2 ? kVocab : 0, 1),
                          .counts = {}});
  for (const bool by_block : {false, true}) {
    const std::vector<SampleChoice> choices = run(logits, kVocab, problems, by_block);
    const int expected[kRows] = {1, 1, 2, 1, 0};
    for (size_t i = 0; i < choices.size(); ++i) {
      EXPECT_EQ(choices[i].fault, expected[i / 2]) << "row " << i / 2;
      EXPECT_EQ(choices[i].token, 0);
    }
  }
}

TEST_F(Sample, AloneAndTogetherAreEqual) {
  RecordProperty("seed", 5);
  std::mt19937_64 random(5);
  constexpr int64_t kVocab = 5000, kRows = 7;
  std::vector<float> logits;
  for (int64_t row = 0; row < kRows; ++row) {
    const std::vector<float> next = random_row(random, kVocab, Shape::kPeaked);
    logits.insert(logits.end(), next.begin(), next.end());
  }
  std::vector<Problem> problems(64);
  for (Problem& each : problems) {
    each.draw = random_draw(random, kRows, kVocab);
    each.draw.top = 3;
  }
  const std::vector<SampleChoice> together = run(logits, kVocab, problems);
  for (size_t i = 0; i < problems.size(); i += 7) {
    const SampleChoice alone = run(logits, kVocab, {problems[i]})[0];
    EXPECT_EQ(alone.token, together[i].token);
    EXPECT_EQ(std::memcmp(&alone.logprob, &together[i].logprob, 4), 0);
    EXPECT_EQ(std::memcmp(alone.top_logprobs, together[i].top_logprobs, 3 * 4), 0);
  }
}

TEST_F(Sample, DrawsAndLogitsOfAGraphMayChange) {
  constexpr int64_t kVocab = 5000;
  RecordProperty("seed", 6);
  std::mt19937_64 random(6);
  testing::DeviceArray<float> logits(kVocab);
  testing::DeviceArray<SampleDraw> draws(2);
  const testing::DeviceArray<SampleChoice> choices(2);
  cudaGraph_t graph{};
  cudaGraphExec_t replay{};
  KVASIR_CUDA(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
  for (const bool overlaps : {false, true}) {
    context_.overlap = overlaps;
    kernels::run_sample(context_, {.logits = logits.data(),
                                   .vocab = kVocab,
                                   .draws = draws.data(),
                                   .count = 2,
                                   .choices = choices.data()});
  }
  KVASIR_CUDA(cudaStreamEndCapture(context_.stream, &graph));
  KVASIR_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  for (int i = 0; i < 5; ++i) {
    const std::vector<float> row = random_row(random, kVocab, Shape::kPeaked);
    const std::vector<SampleDraw> next{random_draw(random, 1, kVocab),
                                       random_draw(random, 1, kVocab)};
    logits.write(row);
    draws.write(next);
    KVASIR_CUDA(cudaGraphLaunch(replay, context_.stream));
    const std::vector<SampleChoice> found = choices.read();
    for (int j = 0; j < 2; ++j)
      EXPECT_EQ(found[j].token, token_of(weights_of(row, {next[j], {}, {}}), next[j].uniform));
  }
  KVASIR_CUDA(cudaGraphExecDestroy(replay));
  KVASIR_CUDA(cudaGraphDestroy(graph));
}

TEST_F(Sample, DrawsFollowTheDistribution) {
  RecordProperty("seed", 7);
  std::mt19937_64 random(7);
  constexpr int64_t kVocab = 300, kDraws = 15000;
  const std::vector<float> logits = random_row(random, kVocab, Shape::kPeaked);
  const std::vector<SampleDraw> options = {{.temperature = 1},
                                           {.temperature = 2, .top_k = 50},
                                           {.temperature = 3, .top_p = 0.8},
                                           {.temperature = 1.5, .min_p = 0.05}};
  for (const SampleDraw& option : options) {
    std::vector<Problem> problems(kDraws, {option, {}, {}});
    for (Problem& each : problems)
      each.draw.uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    const std::vector<SampleChoice> choices = run(logits, kVocab, problems);
    std::vector<int64_t> drawn(kVocab);
    for (const SampleChoice& choice : choices) ++drawn.at(choice.token);
    const std::vector<double> weights = weights_of(logits, problems[0]);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    // Pearson's statistic; tokens expected fewer than five times are one class. The bound is five
    // standard deviations above the mean.
    double statistic = 0, rare_expected = 0, rare_drawn = 0;
    int classes = 0;
    const auto add = [&](double expected, double found) {
      statistic += (found - expected) * (found - expected) / expected;
      ++classes;
    };
    for (int64_t i = 0; i < kVocab; ++i) {
      const double expected = weights[i] / total * kDraws;
      if (weights[i] == 0) {
        EXPECT_EQ(drawn[i], 0);
      } else if (expected < 5) {
        rare_expected += expected;
        rare_drawn += static_cast<double>(drawn[i]);
      } else {
        add(expected, static_cast<double>(drawn[i]));
      }
    }
    if (rare_expected >= 5) add(rare_expected, rare_drawn);
    const double freedom = std::max(1, classes - 1);
    EXPECT_LT(statistic, freedom + 5 * std::sqrt(2 * freedom)) << classes << " classes";
  }
}

// The sizes of real vocabularies.
TEST_F(SampleFull, Sizes) {
  RecordProperty("seed", 8);
  std::mt19937_64 random(8);
  for (const int64_t vocab : {33000, 50257, 128256, 151936, 262144})
    for (int shape = 0; shape < static_cast<int>(Shape::kCount); ++shape) {
      SCOPED_TRACE(::testing::Message() << "vocabulary " << vocab << ", shape " << shape);
      const std::vector<float> logits = random_row(random, vocab, static_cast<Shape>(shape));
      std::vector<Problem> problems(3);
      for (Problem& each : problems) {
        each.draw = random_draw(random, 1, vocab);
        if (random() % 3) continue;
        each.draw.repetition_penalty = 1.1;
        each.seen.resize(vocab);
        for (uint8_t& seen : each.seen) seen = random() % 50 == 0;
      }
      expect_choices(logits, vocab, problems);
    }
}

}  // namespace
}  // namespace kvasir

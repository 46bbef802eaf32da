// The sampler against plain definitions: full sorts, one step after the other.

#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "engine/philox.h"

namespace kvasir::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct History {
  std::vector<TokenId> prompt, answer;
};

// The probabilities that the documentation promises.
std::vector<double> reference(const std::vector<float>& logits, const SamplingOptions& options,
                              const History& history = {}) {
  const size_t size = logits.size();
  std::vector<double> scores(logits.begin(), logits.end());
  for (size_t i = 0; i < size; ++i) {
    const auto in_answer = std::ranges::count(history.answer, static_cast<TokenId>(i));
    if (in_answer > 0 || std::ranges::count(history.prompt, static_cast<TokenId>(i)) > 0)
      scores[i] = scores[i] < 0 ? scores[i] * options.repetition_penalty
                                : scores[i] / options.repetition_penalty;
    if (in_answer > 0)
      scores[i] -= options.presence_penalty + options.frequency_penalty * double(in_answer);
    scores[i] = static_cast<float>(scores[i]);
  }
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<double> chances(size);
  if (options.temperature == 0) {
    chances[order[0]] = 1;
    return chances;
  }
  const auto normalise = [&] {
    const double total = std::accumulate(chances.begin(), chances.end(), 0.0);
    for (double& chance : chances) chance /= total;
  };
  for (size_t i = 0; i < size; ++i)
    chances[i] = std::exp((scores[i] - scores[order[0]]) / options.temperature);
  if (options.top_k > 0)
    for (size_t i = static_cast<size_t>(options.top_k); i < size; ++i) chances[order[i]] = 0;
  normalise();
  if (options.top_p < 1) {
    double mass = 0;
    for (const size_t token : order) {
      if (mass >= options.top_p) chances[token] = 0;
      mass += chances[token];
    }
    normalise();
  }
  for (double& chance : chances)
    if (chance < options.min_p * chances[order[0]]) chance = 0;
  normalise();
  return chances;
}

TokenId draw(const std::vector<float>& logits, const SamplingOptions& options, int64_t position,
             const History& history = {}, int sample = 0) {
  Sampler sampler(options, sample, std::ssize(logits));
  sampler.add_prompt(history.prompt);
  for (const TokenId token : history.answer) sampler.add_answer(token);
  return sampler.sample(logits, position).value().token;
}

std::vector<float> random_logits(std::mt19937_64& random, size_t size, double scale) {
  std::normal_distribution<float> normal(0, static_cast<float>(scale));
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Pearson's statistic of `count` draws at positions 0, 1, ...; classes expected fewer than five
// times are taken together. The bound is five standard deviations of the statistic above its mean.
void expect_distribution(const std::vector<float>& logits, const SamplingOptions& options,
                         const History& history = {}, int64_t count = 15000) {
  const std::vector<double> chances = reference(logits, options, history);
  Sampler sampler(options, 0, std::ssize(logits));
  sampler.add_prompt(history.prompt);
  for (const TokenId token : history.answer) sampler.add_answer(token);
  std::vector<int64_t> drawn(logits.size());
  for (int64_t position = 0; position < count; ++position)
    ++drawn[sampler.sample(logits, position).value().token];
  double statistic = 0, rare_expected = 0, rare_drawn = 0;
  int classes = 0;
  const auto add = [&](double expected, double got) {
    statistic += (got - expected) * (got - expected) / expected;
    ++classes;
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = chances[i] * double(count);
    if (chances[i] == 0) {
      EXPECT_EQ(drawn[i], 0) << "token " << i << " must never be drawn";
    } else if (expected < 5) {
      rare_expected += expected;
      rare_drawn += double(drawn[i]);
    } else {
      add(expected, double(drawn[i]));
    }
  }
  if (rare_expected >= 5) add(rare_expected, rare_drawn);
  const double freedom = std::max(1, classes - 1);
  EXPECT_LT(statistic, freedom + 5 * std::sqrt(2 * freedom)) << classes << " classes";
}

class SamplerDistribution : public testing::Test {
 protected:
  SamplerDistribution() : random_(20260102), logits_(random_logits(random_, 50, 1.5)) {
    RecordProperty("seed", 20260102);
    options_.temperature = 1;
    options_.seed = 4711;
  }
  std::mt19937_64 random_;
  std::vector<float> logits_;
  SamplingOptions options_;
};

TEST_F(SamplerDistribution, Plain) { expect_distribution(logits_, options_); }

TEST_F(SamplerDistribution, Temperature) {
  for (const double temperature : {0.3, 0.8, 2.5}) {
    options_.temperature = temperature;
    expect_distribution(logits_, options_);
  }
}

TEST_F(SamplerDistribution, TopK) {
  for (const int64_t k : {1, 2, 10, 49, 50, 51, 1000}) {
    options_.top_k = k;
    expect_distribution(logits_, options_);
  }
}

TEST_F(SamplerDistribution, TopP) {
  for (const double p : {1e-9, 0.1, 0.5, 0.9, 0.999, 1.0}) {
    options_.top_p = p;
    expect_distribution(logits_, options_);
  }
}

TEST_F(SamplerDistribution, MinP) {
  for (const double p : {0.01, 0.2, 0.9, 0.999}) {
    options_.min_p = p;
    expect_distribution(logits_, options_);
  }
}

TEST_F(SamplerDistribution, Penalties) {
  const History history{{1, 2, 3, 4, 4}, {4, 5, 5, 5, 6}};
  for (const double repetition : {1.0, 1.3, 0.7})
    for (const double presence : {0.0, 0.8, -0.5})
      for (const double frequency : {0.0, 0.4, -0.3}) {
        options_.repetition_penalty = repetition;
        options_.presence_penalty = presence;
        options_.frequency_penalty = frequency;
        expect_distribution(logits_, options_, history, 4000);
      }
}

TEST_F(SamplerDistribution, AllTogether) {
  options_ = {.temperature = 1.4,
              .top_k = 30,
              .top_p = 0.95,
              .min_p = 0.05,
              .repetition_penalty = 1.2,
              .presence_penalty = 0.3,
              .frequency_penalty = 0.1,
              .seed = 3};
  expect_distribution(logits_, options_, {{1, 2, 3}, {4, 5, 5}});
}

// Seeds, samples and positions are independent of one another: what neighbours draw is spread as
// the product of their chances.
TEST_F(SamplerDistribution, NeighboursAreIndependent) {
  const auto number = [](int kind, uint64_t i) {
    if (kind == 0) return uniform(i, 3, 17);
    if (kind == 1) return uniform(5, static_cast<uint32_t>(i), 17);
    return uniform(5, 3, i);
  };
  for (int kind = 0; kind < 3; ++kind) {
    std::vector<int64_t> pairs(100);
    constexpr int64_t kCount = 100000;
    for (uint64_t i = 0; i < kCount; ++i)
      ++pairs[static_cast<size_t>(number(kind, i) * 10) * 10 +
              static_cast<size_t>(number(kind, i + 1) * 10)];
    double statistic = 0;
    for (const int64_t pair : pairs) statistic += std::pow(double(pair) - 1000, 2) / 1000;
    EXPECT_LT(statistic, 99 + 5 * std::sqrt(2 * 99.0)) << "kind " << kind;
  }
}

// The very token that the definition draws: the first one, by id, at which the chances so far
// exceed the random number.
TEST(Sampler, DrawsWhatTheDefinitionDraws) {
  std::mt19937_64 random(20260103);
  RecordProperty("seed", 20260103);
  const auto maybe = [&](double value) { return random() % 2 ? value : 0; };
  int64_t compared = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::vector<float> logits =
        random_logits(random, 1 + random() % 200, 0.1 + double(random() % 50) / 10);
    const auto token = [&] { return static_cast<TokenId>(random() % logits.size()); };
    const History history{{token(), token(), token()}, {token(), token(), token()}};
    SamplingOptions options{.temperature = 0.1 + double(random() % 30) / 10,
                            .top_k = static_cast<int64_t>(maybe(double(random() % 100))),
                            .top_p = 1 - maybe(double(random() % 999) / 1000),
                            .min_p = maybe(double(random() % 999) / 1000),
                            .repetition_penalty = 1 + maybe(double(random() % 10) / 10),
                            .presence_penalty = maybe(double(random() % 10) / 10),
                            .frequency_penalty = maybe(double(random() % 10) / 10),
                            .seed = random()};
    const int64_t position = static_cast<int64_t>(random() % 100000);
    const std::vector<double> chances = reference(logits, options, history);
    const double number = uniform(options.seed, 0, static_cast<uint64_t>(position));
    double sum = 0, nearest = 1;
    TokenId expected = -1;
    for (size_t id = 0; id < chances.size(); ++id) {
      sum += chances[id];
      nearest = std::min(nearest, std::abs(sum - number));
      if (expected < 0 && chances[id] > 0 && sum > number) expected = static_cast<TokenId>(id);
    }
    if (nearest < 1e-9) continue;  // sums in another order may differ in their last digits
    ++compared;
    ASSERT_EQ(draw(logits, options, position, history), expected) << "case " << i;
  }
  EXPECT_GT(compared, 19000);
}

TEST(Sampler, GreedyTiesGoToTheLowestId) {
  EXPECT_EQ(draw({1, 3, 2, 3, 3}, {}, 0), 1);
  EXPECT_EQ(draw({-kInfinity, -5, -5}, {}, 0), 1);
  EXPECT_EQ(draw({2, 3, 3}, {.repetition_penalty = 2}, 0, {{1}, {}}), 2);
}

TEST(Sampler, EqualTokensRankById) {
  const std::vector<float> logits(10, 1.5f);
  for (int64_t position = 0; position < 200; ++position) {
    EXPECT_LT(draw(logits, {.temperature = 1, .top_k = 3}, position), 3);
    EXPECT_LT(draw(logits, {.temperature = 1, .top_p = 0.35}, position), 4);
  }
}

// Each filter works on what the one before has left.
TEST(Sampler, OrderOfApplication) {
  const std::vector<float> logits = {std::log(0.4f), std::log(0.3f), std::log(0.2f),
                                     std::log(0.1f)};
  const auto possible = [&](SamplingOptions options, const History& history = {}) {
    std::set<TokenId> drawn;
    for (int64_t position = 0; position < 500; ++position)
      drawn.insert(draw(logits, options, position, history));
    return drawn;
  };
  using Set = std::set<TokenId>;
  // Of the two that top-k leaves the first has 4/7 = 0.571; of all it has 0.4.
  EXPECT_EQ(possible({.temperature = 1, .top_k = 2, .top_p = 0.55}), (Set{0}));
  EXPECT_EQ(possible({.temperature = 1, .top_k = 0, .top_p = 0.55}), (Set{0, 1}));
  // Temperature first: at 0.5 the shares are 16 : 9 : 4 : 1.
  EXPECT_EQ(possible({.temperature = 0.5, .top_p = 0.5}), (Set{0}));
  EXPECT_EQ(possible({.temperature = 0.5, .min_p = 0.3}), (Set{0, 1}));
  EXPECT_EQ(possible({.temperature = 1, .min_p = 0.3}), (Set{0, 1, 2}));
  // min-p does not change what top-p is a share of.
  EXPECT_EQ(possible({.temperature = 1, .top_p = 0.65, .min_p = 0.6}), (Set{0, 1}));
  // Penalties first: the first token falls behind.
  EXPECT_EQ(possible({.temperature = 1, .top_k = 1, .presence_penalty = 5}, {{}, {0}}), (Set{1}));
}

TEST(Sampler, PenaltiesCountPromptAndAnswer) {
  const std::vector<float> logits = {2, 1.9f, -1, -1.1f};
  // Repetition sees the prompt, presence and frequency do not.
  EXPECT_EQ(draw(logits, {.repetition_penalty = 1.2}, 0, {{0}, {}}), 1);
  EXPECT_EQ(draw(logits, {.presence_penalty = 9}, 0, {{0}, {}}), 0);
  EXPECT_EQ(draw(logits, {.frequency_penalty = 9}, 0, {{0}, {}}), 0);
  EXPECT_EQ(draw(logits, {.presence_penalty = 0.2}, 0, {{}, {0, 0, 0}}), 1);
  EXPECT_EQ(draw(logits, {.frequency_penalty = 0.04}, 0, {{}, {0, 0}}), 0) << "0.08 off";
  EXPECT_EQ(draw(logits, {.frequency_penalty = 0.04}, 0, {{}, {0, 0, 0}}), 1) << "0.12 off";
  // Negative logits are multiplied.
  EXPECT_EQ(draw({-1, -1.1f}, {.repetition_penalty = 1.2}, 0, {{0}, {}}), 1);
}

TEST(Sampler, FunctionOfSeedSampleAndPosition) {
  std::mt19937_64 random(9);
  const std::vector<float> logits = random_logits(random, 1000, 0.5);
  const auto chosen = [&](uint64_t seed, int sample, int64_t position) {
    return draw(logits, {.temperature = 1, .seed = seed}, position, {}, sample);
  };
  // Whatever was drawn before.
  Sampler sampler({.temperature = 1, .seed = 7}, 2, 1000);
  for (int64_t position = 50; position-- > 0;)
    EXPECT_EQ(sampler.sample(logits, position).value().token, chosen(7, 2, position));
  int same_seed = 0, same_sample = 0, same_position = 0;
  for (int i = 0; i < 300; ++i) {
    same_seed += chosen(i, 0, 5) == chosen(i + 1, 0, 5);
    same_sample += chosen(3, i, 5) == chosen(3, i + 1, 5);
    same_position += chosen(3, 0, i) == chosen(3, 0, i + 1);
  }
  for (const int same : {same_seed, same_sample, same_position}) EXPECT_LT(same, 10);
}

TEST(Sampler, Philox) {
  // Known answers of the authors' library, Random123.
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Sampler, LogprobsAreOfTheUnmodifiedDistribution) {
  const std::vector<float> logits = {1, 4, 2, 4, -kInfinity};
  Sampler sampler({.temperature = 0.2, .top_k = 1, .repetition_penalty = 9}, 0, 5);
  sampler.add_answer(1);
  const SampleResult result = sampler.sample(logits, 0, 3).value();
  EXPECT_EQ(result.token, 3);
  double total = 0;
  for (const float logit : logits) total += std::exp(double(logit));
  EXPECT_NEAR(result.logprob, 4 - std::log(total), 1e-6);
  ASSERT_EQ(result.top_logprobs.size(), 3u);
  const TokenId order[] = {1, 3, 2};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(result.top_logprobs[i].token, order[i]) << "descending, ties by id";
    EXPECT_NEAR(result.top_logprobs[i].logprob, logits[order[i]] - std::log(total), 1e-6);
  }
  EXPECT_TRUE(sampler.sample(logits, 0).value().top_logprobs.empty());
  EXPECT_EQ(sampler.sample(logits, 0, 0).value().logprob, result.logprob);
  EXPECT_EQ(sampler.sample(logits, 0, 99).value().top_logprobs.size(), 5u);
}

TEST(Sampler, LogprobsOfAllSumToOne) {
  std::mt19937_64 random(12);
  const std::vector<float> logits = random_logits(random, 3000, 4);
  const SampleResult result = Sampler({}, 0, 3000).sample(logits, 0, 3000).value();
  double sum = 0;
  for (size_t i = 0; i < 3000; ++i) {
    sum += std::exp(double(result.top_logprobs[i].logprob));
    if (i > 0) {
      EXPECT_LE(result.top_logprobs[i].logprob, result.top_logprobs[i - 1].logprob);
    }
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(Sampler, ExtremeOptions) {
  std::mt19937_64 random(13);
  const std::vector<float> logits = random_logits(random, 100, 3);
  const auto best = static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
  std::set<TokenId> flat;
  for (int64_t position = 0; position < 2000; ++position) {
    EXPECT_EQ(draw(logits, {.temperature = 1e-300}, position), best);
    flat.insert(draw(logits, {.temperature = 1e300}, position));
    for (const double penalty : {1e-300, 1e300}) {
      const History all{{0, 1, 2}, {best, 3, 4}};
      const TokenId token = draw(logits,
                                 {.temperature = 1,
                                  .repetition_penalty = penalty,
                                  .presence_penalty = penalty,
                                  .frequency_penalty = -penalty},
                                 position, all);
      EXPECT_TRUE(token >= 0 && token < 100);
    }
  }
  EXPECT_EQ(flat.size(), 100u);
}

TEST(Sampler, MaskedTokensAreNeverDrawn) {
  std::vector<float> logits(20, -kInfinity);
  logits[7] = -3;
  logits[11] = -4;
  for (int64_t position = 0; position < 300; ++position) {
    const TokenId token =
        draw(logits, {.temperature = 5, .repetition_penalty = 0.5, .presence_penalty = -4},
             position, {{0, 1, 2}, {3}});
    EXPECT_TRUE(token == 7 || token == 11);
  }
}

TEST(Sampler, LogitsThatAreNoNumbers) {
  for (const float bad : {float(kNan), kInfinity}) {
    for (const size_t place : {0, 1, 2}) {
      std::vector<float> logits = {1, 2, 3};
      logits[place] = bad;
      const auto result = Sampler({}, 0, 3).sample(logits, 41);
      ASSERT_FALSE(result.ok());
      EXPECT_EQ(result.error().code(), ErrorCode::kInternal);
      EXPECT_NE(result.error().message().find("position 41 are not finite"), std::string::npos);
    }
  }
  const auto result = Sampler({}, 0, 2).sample(std::vector<float>{-kInfinity, -kInfinity}, 3);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("all minus infinity"), std::string::npos);
}

struct Range {
  const char* name;
  double SamplingOptions::* option;
  std::vector<double> good, bad;
};

TEST(CheckSampling, Ranges) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kTiny = std::numeric_limits<double>::min();
  const Range ranges[] = {
      {"temperature", &SamplingOptions::temperature, {0, kTiny, 1, 1e9}, {-kTiny, -1, kNan, kInf}},
      {"top_p", &SamplingOptions::top_p, {kTiny, 0.5, 1}, {0, -0.1, 1.0000001, kNan, kInf}},
      {"min_p", &SamplingOptions::min_p, {0, 0.5, 0.9999999}, {-kTiny, 1, kNan, kInf}},
      {"repetition_penalty",
       &SamplingOptions::repetition_penalty,
       {kTiny, 1, 100},
       {0, -1, kNan, kInf}},
      {"presence_penalty", &SamplingOptions::presence_penalty, {-2, 0, 2, 50}, {kNan, kInf, -kInf}},
      {"frequency_penalty",
       &SamplingOptions::frequency_penalty,
       {-2, 0, 2, 50},
       {kNan, kInf, -kInf}},
  };
  EXPECT_TRUE(check_sampling({}).ok());
  for (const Range& range : ranges) {
    SamplingOptions options;
    for (const double value : range.good) {
      options.*range.option = value;
      EXPECT_TRUE(check_sampling(options).ok()) << range.name << " = " << value;
    }
    for (const double value : range.bad) {
      options.*range.option = value;
      const auto checked = check_sampling(options);
      ASSERT_FALSE(checked.ok()) << range.name << " = " << value;
      EXPECT_EQ(checked.error().code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(checked.error().context(), range.name);
    }
  }
  for (const int64_t k : {int64_t{0}, int64_t{1}, int64_t{1} << 60})
    EXPECT_TRUE(check_sampling({.top_k = k}).ok());
  EXPECT_STREQ(check_sampling({.top_k = -1}).error().what(),
               "top_k: expected 0 (off) or more, found -1");
  EXPECT_STREQ(check_sampling({.top_p = 1.5}).error().what(),
               "top_p: expected more than 0 and at most 1 (off), found 1.5");
}

}  // namespace
}  // namespace kvasir::engine

// The search for head patterns on planted heads, and its measures against their definitions.

#include "prefill/minference/head_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "prefill/plan_problem.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadPattern;
using formats::HeadPatternKind;

constexpr HeadPattern kColumns{HeadPatternKind::kVerticalSlash, 60, 100, {}};
constexpr HeadPattern kDiagonals{HeadPatternKind::kVerticalSlash, 30, 101, {}};
constexpr HeadPattern kWindow{HeadPatternKind::kAShape, 1, 900, {}};

// Three heads with keys of their own: one looks at twenty columns, one at a distance of 1200, one
// at distances below 900.
class PlantedHeads {
 public:
  static constexpr int kHeads = 3, kSize = 32;

  explicit PlantedHeads(int64_t length = 3072)
      : length(length),
        problem_({.q_heads = kHeads,
                  .kv_heads = kHeads,
                  .head_dim = kSize,
                  .spans = {{.rows = length}},
                  .seed = 11},
                 DType::kF32) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> wanted(kSize);
    for (float& value : wanted) value = normal(random);
    for (int64_t key = 0; key < length; ++key)
      for (int head = 0; head < kHeads; ++head) {
        float* k = f32_row(problem_, head, 0, key);
        for (int i = 0; i < kSize; ++i) k[i] = normal(random);
        // Behind the columns that are always kept, and before those of the last chunk.
        const bool is_planted = head == 0 && key >= 40 && key < 40 + 20 * 37 && key % 37 == 3;
        if (is_planted) std::copy(wanted.begin(), wanted.end(), k);
      }
    for (int64_t row = 0; row < length; ++row) {
      look_at(row, 0, wanted.data());
      look_at(row, 1, f32_row(problem_, 1, 0, std::max<int64_t>(0, row - 1200)));
      look_at(row, 2, f32_row(problem_, 2, 0, std::max<int64_t>(0, row - row * 7 % 897)));
    }
    out_.resize(static_cast<size_t>(length * kHeads * kSize));
    lse_.resize(static_cast<size_t>(length * kHeads));
    auto spans = problem_.spans();
    auto result = problem_.empty_result();
    problem_.run({.pool = pool_}, spans, nullptr, false, result);
    for (size_t i = 0; i < out_.size(); ++i) out_[i] = result.value(DType::kF32, i);
    for (size_t i = 0; i < lse_.size(); ++i) lse_[i] = result.lse[i];
  }

  std::vector<HeadChoice> search(const HeadSearchOptions& options) const {
    return search_heads({.pool = pool_}, options, queries_of(problem_),
                        {.out = out_.data(), .lse = lse_.data()}, nullptr);
  }

  // Of row and head: the softmax's weight on each key.
  std::vector<double> weights(int64_t row, int head) const {
    std::vector<double> weights(static_cast<size_t>(row + 1));
    double sum = 0;
    for (int64_t key = 0; key <= row; ++key) {
      double score = 0;
      for (int i = 0; i < kSize; ++i)
        score += double{f32_query(problem_, row, head)[i]} * f32_row(problem_, head, 0, key)[i];
      sum += weights[static_cast<size_t>(key)] = std::exp(score / std::sqrt(double{kSize}));
    }
    for (double& weight : weights) weight /= sum;
    return weights;
  }
  const kernels::AttentionProblem& problem() const { return problem_; }

  const int64_t length;

 private:
  void look_at(int64_t row, int head, const float* wanted) {
    for (int i = 0; i < kSize; ++i) f32_query(problem_, row, head)[i] = 2.5f * wanted[i];
  }

  mutable ThreadPool pool_{2};
  kernels::AttentionProblem problem_;
  std::vector<float> out_, lse_;
};

TEST(HeadSearch, FindsWhatWasPlanted) {
  const PlantedHeads heads;
  for (const Objective objective : {Objective::kOutput, Objective::kRecall, Objective::kCount}) {
    SCOPED_TRACE(objective_name(objective));
    const auto choices = heads.search(
        {.objective = objective, .candidates = {kWindow, kColumns, kDiagonals}, .chunk = 1024});
    const HeadPattern expected[] = {kColumns, kDiagonals, kWindow};
    for (size_t head = 0; head < 3; ++head) {
      const HeadPattern& found = choices[head].best.pattern;
      EXPECT_EQ(found.kind, expected[head].kind) << head;
      EXPECT_EQ(found.first, expected[head].first) << head;
      EXPECT_EQ(found.second, expected[head].second) << head;
      EXPECT_EQ(choices[head].tried.size(), 3u);
    }
    EXPECT_GT(choices[0].best.recall, 0.8);
    const bool is_count = objective == Objective::kCount;
    EXPECT_EQ(std::holds_alternative<int64_t>(choices[0].best.pattern.score), is_count);
  }
}

TEST(HeadSearch, MeasuresAreTheirDefinitions) {
  const PlantedHeads heads(1024);
  const auto length = static_cast<double>(heads.length);
  const auto choices = heads.search({.candidates = {{HeadPatternKind::kAShape, 8, 64, {}}}});
  for (int head = 0; head < PlantedHeads::kHeads; ++head) {
    double recall = 0, error = 0;
    int64_t count = 0;
    for (int64_t row = 0; row < heads.length; ++row) {
      const std::vector<double> weights = heads.weights(row, head);
      double kept = 0;
      std::vector<double> dense(PlantedHeads::kSize), sparse(PlantedHeads::kSize);
      for (int64_t key = 0; key <= row; ++key) {
        const double weight = weights[static_cast<size_t>(key)];
        const bool is_kept = key < 8 || row - key < 64;
        kept += is_kept ? weight : 0;
        const float* value = f32_row(heads.problem(), head, 1, key);
        for (size_t i = 0; i < dense.size(); ++i) {
          dense[i] += weight * value[i];
          sparse[i] += is_kept ? weight * value[i] : 0;
        }
      }
      double difference = 0, norm = 0;
      for (size_t i = 0; i < dense.size(); ++i) {
        const double distance = sparse[i] / kept - dense[i];
        difference += distance * distance;
        norm += dense[i] * dense[i];
        count += std::abs(distance) > 5e-3;
      }
      recall += kept / length;
      error += std::sqrt(difference / norm) / length;
    }
    const TriedPattern& found = choices[static_cast<size_t>(head)].best;
    EXPECT_NEAR(found.recall, recall, 1e-3);
    EXPECT_NEAR(found.error, error, 1e-3 * error + 1e-5);
    EXPECT_NEAR(static_cast<double>(found.count), static_cast<double>(count), 20);
    // Whole tiles of 128 rows and groups of 64 keys hold more than the pattern asks for.
    const double asked = (64.0 + 8) / (length / 2.0);
    EXPECT_GT(found.density, asked);
    EXPECT_LT(found.density, 6 * asked);
  }
}

TEST(HeadSearch, FitsCandidatesToADensity) {
  const PlantedHeads heads;
  const HeadPattern blocks{HeadPatternKind::kBlockSparse, 1, 1, {}};
  double before = 0;
  for (const double density : {0.3, 0.45}) {
    const auto choices = heads.search(
        {.candidates = {blocks, kWindow, kColumns}, .density = density, .chunk = 1024});
    for (const HeadChoice& choice : choices) {
      EXPECT_LE(choice.best.density, density + 1e-9);
      EXPECT_NE(choice.best.pattern.kind, HeadPatternKind::kBlockSparse) << "it is dense here";
    }
    EXPECT_GT(choices[2].best.density, before) << "more may be computed, and is";
    before = choices[2].best.density;
  }
}

TEST(HeadSearch, GrowsUntilEnoughIsKept) {
  const PlantedHeads heads;
  const HeadSearchOptions small{.candidates = {{HeadPatternKind::kAShape, 8, 64, {}}}};
  HeadSearchOptions grown = small;
  grown.recall = 0.9;
  const auto before = heads.search(small), after = heads.search(grown);
  for (size_t head = 0; head < 3; ++head) {
    EXPECT_LT(before[head].best.recall, 0.9);
    EXPECT_GE(after[head].best.recall, 0.9);
    const auto& tried = after[head].tried;
    for (size_t i = 1; i < tried.size(); ++i) {
      EXPECT_GT(tried[i].pattern.second, tried[i - 1].pattern.second);
      EXPECT_GE(tried[i].recall, tried[i - 1].recall - 1e-6);
    }
  }
  // The window of the one that looks up to 897 back.
  EXPECT_LT(after[2].best.pattern.second, 1000);
  EXPECT_GT(after[0].best.pattern.second, 1000) << "columns far back";
}

TEST(HeadSearch, EndsWhereItIsTold) {
  const PlantedHeads heads;
  ThreadPool pool(1);
  std::vector<float> out(1 << 20), lse(1 << 16);
  int steps = 0;
  const auto stop = [&steps](double) {
    if (++steps == 2) throw Error(ErrorCode::kCancelled, "enough");
  };
  EXPECT_THROW(search_heads({.pool = pool}, {.candidates = {kWindow, kColumns}, .chunk = 1024},
                            queries_of(heads.problem()), {out.data(), lse.data()}, stop),
               Error);
  EXPECT_EQ(steps, 2);
}

}  // namespace
}  // namespace kvasir::prefill::minference

#include "prefill/minference/head_search.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "prefill/minference/minference.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadPattern;
using formats::HeadPatternKind;

constexpr int kBisections = 7;
constexpr double kMostScale = 64;

// Stands in for heads that nothing is asked of: hardly any work.
constexpr HeadPattern kIdle{.kind = HeadPatternKind::kAShape, .first = 1, .second = 64};

int32_t scaled(int32_t value, double scale) {
  return static_cast<int32_t>(std::clamp(value * scale, 1.0, 1e9));
}

HeadPattern scaled(HeadPattern pattern, double scale) {
  if (pattern.kind == HeadPatternKind::kBlockSparse) return pattern;
  pattern.first = scaled(pattern.first, scale);
  pattern.second = scaled(pattern.second, scale);
  return pattern;
}

class HeadSearch {
 public:
  HeadSearch(const kernels::CpuContext& context, const HeadSearchOptions& options,
             const LayerQueries& queries, const DenseResult& dense,
             const std::function<void(double)>& between)
      : context_(context),
        options_(options),
        length_(queries.chunk.length()),
        between_(between),
        meter_(context, queries, dense, options.chunk),
        heads_(meter_.heads()) {
    config_.layers.resize(static_cast<size_t>(queries.layer) + 1);
  }

  std::vector<HeadChoice> run() {
    std::vector<HeadChoice> choices(heads_);
    const size_t candidates = options_.candidates.size();
    for (size_t i = 0; i < candidates; ++i) {
      rounds_ = {static_cast<double>(i), static_cast<double>(candidates)};
      const std::vector<HeadPattern> patterns = fitted(options_.candidates[i]);
      const std::vector<TriedPattern> tried = measure(patterns, {});
      for (size_t head = 0; head < heads_; ++head) choices[head].tried.push_back(tried[head]);
    }
    for (HeadChoice& choice : choices) choice.best = best_of(choice.tried);
    if (options_.recall > 0) refine(choices);
    for (HeadChoice& choice : choices) choice.best.pattern.score = score(choice.best);
    return choices;
  }

 private:
  std::variant<int64_t, double> score(const TriedPattern& tried) const {
    if (options_.objective == Objective::kCount) return tried.count;
    return options_.objective == Objective::kOutput ? tried.error : tried.recall;
  }

  double loss(const TriedPattern& tried) const {
    if (options_.objective == Objective::kCount) return static_cast<double>(tried.count);
    return options_.objective == Objective::kOutput ? tried.error : -tried.recall;
  }

  TriedPattern best_of(const std::vector<TriedPattern>& tried) const {
    const TriedPattern* best = nullptr;
    for (const TriedPattern& each : tried) {
      const bool is_too_large = options_.density > 0 &&
                                each.pattern.kind == HeadPatternKind::kBlockSparse &&
                                each.density > 1.25 * options_.density;
      if (is_too_large && tried.size() > 1) continue;
      if (!best || loss(each) < loss(*best)) best = &each;
    }
    return best ? *best : tried.front();
  }

  // The candidate, scaled for each head to the density asked for: [heads].
  std::vector<HeadPattern> fitted(const HeadPattern& candidate) {
    std::vector<HeadPattern> patterns(heads_, candidate);
    if (options_.density <= 0 || candidate.kind == HeadPatternKind::kBlockSparse) return patterns;
    std::vector<double> least(heads_, -std::log(kMostScale)), most(heads_, std::log(kMostScale));
    for (int step = 0; step < kBisections; ++step) {
      for (size_t head = 0; head < heads_; ++head)
        patterns[head] = scaled(candidate, std::exp((least[head] + most[head]) / 2));
      const std::vector<double> found = densities(patterns);
      for (size_t head = 0; head < heads_; ++head)
        (found[head] <= options_.density ? least : most)[head] = (least[head] + most[head]) / 2;
    }
    for (size_t head = 0; head < heads_; ++head)
      patterns[head] = scaled(candidate, std::exp(least[head]));
    return patterns;
  }

  // Grows what keeps too little. A 64th of the text at a time, at most the 2048 of the published
  // configurations.
  void refine(std::vector<HeadChoice>& choices) {
    const auto step = static_cast<int32_t>(std::clamp<int64_t>(length_ / 64, 16, 2048));
    while (true) {
      std::vector<HeadPattern> patterns(heads_, kIdle);
      std::vector<bool> grows(heads_);
      for (size_t head = 0; head < heads_; ++head) {
        const TriedPattern& best = choices[head].best;
        grows[head] = best.recall < options_.recall && best.pattern.second < length_;
        if (grows[head]) patterns[head] = grown(best.pattern, step);
      }
      if (std::ranges::none_of(grows, [](bool each) { return each; })) return;
      const std::vector<TriedPattern> tried = measure(patterns, grows);
      for (size_t head = 0; head < heads_; ++head) {
        if (!grows[head]) continue;
        choices[head].tried.push_back(tried[head]);
        choices[head].best = tried[head];
      }
    }
  }

  HeadPattern grown(HeadPattern pattern, int32_t step) const {
    if (pattern.kind == HeadPatternKind::kBlockSparse) {
      const auto other = std::ranges::find_if(options_.candidates, [](const HeadPattern& each) {
        return each.kind != HeadPatternKind::kBlockSparse;
      });
      return other == options_.candidates.end() ? HeadPattern{} : *other;
    }
    if (pattern.kind == HeadPatternKind::kVerticalSlash) pattern.first += step;
    pattern.second += step;
    return pattern;
  }

  // Patterns of all heads to the plan of a chunk.
  PlanMeter::MakePlan planned(const std::vector<HeadPattern>& patterns) {
    auto& layer = config_.layers.back();
    for (size_t head = 0; head < heads_; ++head) layer[static_cast<int32_t>(head)] = patterns[head];
    return [this](const LayerQueries& part, Workspace& workspace, PlanBuffer& plan) {
      plan_layer(context_, {}, config_, part, workspace, plan);
    };
  }

  std::vector<double> densities(const std::vector<HeadPattern>& patterns) {
    return meter_.densities(planned(patterns), [this](double) { step(0); });
  }

  std::vector<TriedPattern> measure(const std::vector<HeadPattern>& patterns,
                                    const std::vector<bool>& asked) {
    const std::vector<HeadMeasure> found =
        meter_.measure(planned(patterns), asked, [this](double share) { step(share); });
    std::vector<TriedPattern> tried;
    for (size_t head = 0; head < heads_; ++head) tried.push_back({found[head], patterns[head]});
    return tried;
  }

  void step(double share) const {
    if (between_) between_(std::min(1.0, (rounds_.first + share) / rounds_.second));
  }

  const kernels::CpuContext& context_;
  const HeadSearchOptions& options_;
  const int64_t length_;
  const std::function<void(double)>& between_;
  PlanMeter meter_;
  const size_t heads_;
  std::pair<double, double> rounds_{0, 1};  // of candidates
  formats::HeadConfig config_;              // the layer's patterns behind empty layers
};

}  // namespace

std::string_view objective_name(Objective objective) {
  constexpr std::string_view kNames[] = {"output", "recall", "count5e-3"};
  return kNames[static_cast<size_t>(objective)];
}

std::vector<HeadPattern> default_candidates() {
  constexpr HeadPatternKind kSlash = HeadPatternKind::kVerticalSlash;
  return {{HeadPatternKind::kAShape, 100, 800, {}},
          {kSlash, 30, 800, {}},
          {kSlash, 100, 750, {}},
          {kSlash, 500, 700, {}},
          {kSlash, 3500, 100, {}},
          {kSlash, 1000, 6096, {}},
          {HeadPatternKind::kBlockSparse, 1000, 6096, {}}};
}

std::vector<HeadChoice> search_heads(const kernels::CpuContext& context,
                                     const HeadSearchOptions& options, const LayerQueries& queries,
                                     const DenseResult& dense,
                                     const std::function<void(double)>& between) {
  KVASIR_CHECK(!options.candidates.empty(), "there is something to try");
  KVASIR_CHECK(options.chunk > 0, "chunks have rows");
  return HeadSearch(context, options, queries, dense, between).run();
}

}  // namespace kvasir::prefill::minference

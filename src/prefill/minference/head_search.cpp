#include "prefill/minference/head_search.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/memory.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/paged_attention/plan_size.h"
#include "prefill/minference/minference.h"

namespace kvasir::prefill::minference {
namespace {

using formats::HeadPattern;
using formats::HeadPatternKind;

constexpr double kCounted = 5e-3;  // the released code's difference worth counting
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
        queries_(queries),
        dense_(dense),
        between_(between),
        heads_(static_cast<size_t>(queries.q_heads)),
        chunk_(std::min(options.chunk, queries.chunk.rows)) {
    config_.layers.resize(static_cast<size_t>(queries.layer) + 1);
  }

  std::vector<HeadChoice> run() {
    std::vector<HeadChoice> choices(heads_);
    const size_t candidates = options_.candidates.size();
    for (size_t i = 0; i < candidates; ++i) {
      const std::vector<HeadPattern> patterns = fitted(options_.candidates[i]);
      rounds_ = {static_cast<double>(i), static_cast<double>(candidates)};
      const std::vector<TriedPattern> tried = measure(patterns, all_heads());
      for (size_t head = 0; head < heads_; ++head) choices[head].tried.push_back(tried[head]);
    }
    for (HeadChoice& choice : choices) choice.best = best_of(choice.tried);
    if (options_.recall > 0) refine(choices);
    for (HeadChoice& choice : choices) choice.best.pattern.score = score(choice.best);
    return choices;
  }

 private:
  std::vector<bool> all_heads() const { return std::vector<bool>(heads_, true); }

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
    const int64_t length = queries_.chunk.length();
    const auto step = static_cast<int32_t>(std::clamp<int64_t>(length / 64, 16, 2048));
    while (true) {
      std::vector<HeadPattern> patterns(heads_, kIdle);
      std::vector<bool> grows(heads_);
      for (size_t head = 0; head < heads_; ++head) {
        const TriedPattern& best = choices[head].best;
        grows[head] = best.recall < options_.recall && best.pattern.second < length;
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

  LayerQueries rows_of(int64_t first, int64_t count) const {
    LayerQueries part = queries_;
    const auto row_bytes =
        queries_.q_row_stride * static_cast<int64_t>(dtype_bytes(queries_.pages.dtype));
    part.chunk = {
        .query_offset = queries_.chunk.query_offset + first, .rows = count, .row_tile = 128};
    part.q = static_cast<const std::byte*>(queries_.q) + first * row_bytes;
    return part;
  }

  // Plans the chunk that begins at row `first`.
  LayerQueries plan(const std::vector<HeadPattern>& patterns, int64_t first) {
    const LayerQueries part = rows_of(first, std::min(chunk_, queries_.chunk.rows - first));
    auto& layer = config_.layers.back();
    for (size_t head = 0; head < heads_; ++head) layer[static_cast<int32_t>(head)] = patterns[head];
    plan_.clear();
    plan_.row_tile = part.chunk.row_tile;
    workspace_.clear();
    plan_layer(context_, {}, config_, part, workspace_, plan_);
    return part;
  }

  // Of each head's plan over all rows: pairs computed over those of dense attention.
  void add_sizes(const Chunk& chunk, std::vector<kernels::PlanSize>& sizes) {
    const kernels::AttentionPlan view = plan_.view();
    context_.pool.parallel(std::ssize(sizes), [&](int64_t head, int) {
      sizes[static_cast<size_t>(head)] += kernels::plan_size({.plan = &view,
                                                              .head = static_cast<int>(head),
                                                              .rows = chunk.rows,
                                                              .query_offset = chunk.query_offset});
    });
  }

  std::vector<double> densities(const std::vector<HeadPattern>& patterns) {
    std::vector<kernels::PlanSize> sizes(heads_);
    for (int64_t first = 0; first < queries_.chunk.rows; first += chunk_) {
      step(0, 0);
      const LayerQueries part = plan(patterns, first);
      add_sizes(part.chunk, sizes);
    }
    return shares(sizes);
  }

  static std::vector<double> shares(const std::vector<kernels::PlanSize>& sizes) {
    std::vector<double> found;
    for (const kernels::PlanSize& size : sizes)
      found.push_back(std::min(1.0, static_cast<double>(size.computed) /
                                        static_cast<double>(std::max<int64_t>(1, size.causal))));
    return found;
  }

  // Runs the patterns over all rows and compares; heads that are not `asked` are left out.
  std::vector<TriedPattern> measure(const std::vector<HeadPattern>& patterns,
                                    const std::vector<bool>& asked) {
    std::vector<TriedPattern> tried(heads_);
    for (size_t head = 0; head < heads_; ++head) tried[head] = {patterns[head], 0, 0, 0, 0};
    std::vector<kernels::PlanSize> sizes(heads_);
    const int64_t rows = queries_.chunk.rows;
    for (int64_t first = 0; first < rows; first += chunk_) {
      step(first, rows);
      const LayerQueries part = plan(patterns, first);
      add_sizes(part.chunk, sizes);
      attend(part);
      context_.pool.parallel(std::ssize(tried), [&](int64_t head, int) {
        if (asked[static_cast<size_t>(head)])
          compare(first, part.chunk.rows, head, tried[static_cast<size_t>(head)]);
      });
    }
    const std::vector<double> found = shares(sizes);
    for (size_t head = 0; head < heads_; ++head) {
      tried[head].error /= static_cast<double>(rows);
      tried[head].recall /= static_cast<double>(rows);
      tried[head].density = found[head];
    }
    return tried;
  }

  void attend(const LayerQueries& part) {
    const int64_t elements = part.chunk.rows * queries_.q_heads * int64_t{queries_.pages.head_dim};
    out_.resize(static_cast<size_t>(elements) * dtype_bytes(queries_.pages.dtype));
    lse_.resize(static_cast<size_t>(part.chunk.rows * queries_.q_heads));
    const kernels::AttentionPlan view = plan_.view();
    const kernels::AttentionSpan span{.rows = part.chunk.rows,
                                      .query_offset = part.chunk.query_offset,
                                      .page_table = part.page_table,
                                      .plan = &view};
    const size_t bytes = kernels::attention_workspace_bytes({.dtype = part.pages.dtype,
                                                             .q_heads = part.q_heads,
                                                             .kv_heads = part.pages.kv_heads,
                                                             .head_dim = part.pages.head_dim},
                                                            part.chunk.rows, 1, part.chunk.length(),
                                                            context_.pool.size());
    workspace_.clear();
    kernels::run_attention(context_, {.q = part.q,
                                      .q_row_stride = part.q_row_stride,
                                      .out = out_.data(),
                                      .lse = lse_.data(),
                                      .pages = part.pages,
                                      .q_heads = part.q_heads,
                                      .scale = part.scale,
                                      .spans = {&span, 1},
                                      .workspace = workspace_.bytes(bytes)});
  }

  // Rows [first, first + rows) of a head: adds to sums over rows.
  void compare(int64_t first, int64_t rows, int64_t head, TriedPattern& sums) const {
    const int64_t size = queries_.pages.head_dim, heads = queries_.q_heads;
    const DType dtype = queries_.pages.dtype;
    const auto* dense = static_cast<const std::byte*>(dense_.out);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t mine = row * heads + head, theirs = (first + row) * heads + head;
      double difference = 0, norm = 0;
      for (int64_t i = 0; i < size; ++i) {
        const double wanted = read_f32(dense, dtype, theirs * size + i);
        const double found = read_f32(out_.data(), dtype, mine * size + i);
        difference += (found - wanted) * (found - wanted);
        norm += wanted * wanted;
        sums.count += std::abs(found - wanted) > kCounted;
      }
      sums.error += norm > 0 ? std::sqrt(difference / norm) : 0;
      // Rounding of the two may differ.
      sums.recall += std::min(
          1.0, std::exp(double{lse_[static_cast<size_t>(mine)]} - double{dense_.lse[theirs]}));
    }
  }

  void step(int64_t done, int64_t total) const {
    if (!between_) return;
    const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
    between_(std::min(1.0, (rounds_.first + part) / rounds_.second));
  }

  const kernels::CpuContext& context_;
  const HeadSearchOptions& options_;
  const LayerQueries& queries_;
  const DenseResult& dense_;
  const std::function<void(double)>& between_;
  const size_t heads_;
  const int64_t chunk_;
  std::pair<double, double> rounds_{0, 1};  // of candidates
  formats::HeadConfig config_;              // the layer's patterns behind empty layers
  PlanBuffer plan_;
  Workspace workspace_;
  std::vector<std::byte> out_;  // of a chunk
  std::vector<float> lse_;
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

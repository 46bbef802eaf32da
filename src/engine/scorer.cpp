#include "engine/scorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/stages.h"
#include "engine/text_pass.h"

namespace kvasir::engine {
namespace {

// Mean and variance in one pass (Welford).
class Moments {
 public:
  void add(double value) {
    ++count_;
    const double delta = value - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (value - mean_);
    sum_ += value;
  }
  double sum() const { return sum_; }
  double standard_error() const {
    if (count_ < 2) return 0;
    const double n = static_cast<double>(count_);
    return std::sqrt(squares_ / (n - 1) / n);
  }

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0, sum_ = 0;
};

double log_sum_exp(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - top));
  return static_cast<double>(top) + std::log(sum);
}

}  // namespace

double divergence(std::span<const float> p, std::span<const float> q) {
  const double p_total = log_sum_exp(p), q_total = log_sum_exp(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - p_total;
    sum += std::exp(log_p) * (log_p - (q[i] - q_total));
  }
  return std::max(0.0, sum);
}

int64_t score_rows(const Engine::ScoreOptions& options, const prefill::ModelShape& model,
                   int64_t vocab_size, int64_t chunk) {
  constexpr int64_t kRows = 256, kLogitBytes = int64_t{512} << 20;
  const auto plans_from_queries = [&](const StageChoice& stages) {
    check_stages(stages, {}).value();
    const auto planner = prefill::make_planner(stages.prefill, model).value();
    return planner && planner->plans_from_queries();
  };
  if (!plans_from_queries(options.stages) &&
      !(options.against && plans_from_queries(*options.against)))
    return kRows;
  return std::max(kRows, std::min(chunk, kLogitBytes / (4 * vocab_size)));
}

Score score_tokens(Executor& executor, kv::KvManager& kv, std::span<const TokenId> tokens,
                   std::optional<TokenId> begin, int64_t window_tokens, int64_t chunk_tokens,
                   bool deterministic, const prefill::ModelShape& model,
                   const Engine::ScoreOptions& options) {
  const int64_t total = static_cast<int64_t>(tokens.size());
  const size_t vocab = static_cast<size_t>(executor.vocab_size());
  const bool with_begin = begin && total > 0 && tokens[0] == *begin;
  const auto pass = [&](kv::Domain domain, const StageChoice& stages) {
    check_stages(stages, {.chunked_prefill = true, .gpu = executor.is_on_gpu()}).value();
    if (compress::make_compressor(stages.compress, {.layers = model.layers}).value())
      throw Error(ErrorCode::kUnsupported,
                  stages.compress.name +
                      " drops KV after a prompt, and a text that is scored has "
                      "nothing behind it; ask questions with kvasir run",
                  "--compress");
    return std::make_unique<TextPass>(executor, kv, domain,
                                      prefill::make_planner(stages.prefill, model).value());
  };
  const auto base = pass(1, options.stages);
  const auto against = pass(2, options.against.value_or(options.stages));
  Moments nll, kl;
  Score score;
  std::vector<float> base_logits;

  for (int64_t start = 0; start < total;) {
    std::vector<TokenId> window;
    const bool adds_begin = with_begin && start > 0;
    if (adds_begin) window.push_back(*begin);
    const int64_t taken =
        std::min(total - start, window_tokens - static_cast<int64_t>(window.size()));
    window.insert(window.end(), tokens.begin() + start, tokens.begin() + start + taken);
    base->begin(window);
    if (options.against) against->begin(window);

    const int64_t length = static_cast<int64_t>(window.size());
    for (int64_t done = 0; done < length;) {
      if (options.cancelled && options.cancelled())
        throw Error(ErrorCode::kCancelled, "scoring was interrupted");
      const int64_t count = std::min(chunk_tokens, length - done);
      const std::span<const float> rows = base->run(count, deterministic);
      std::span<const float> logits = rows;
      std::span<const float> other;
      if (options.against) {
        base_logits.assign(rows.begin(), rows.end());
        logits = base_logits;
        other = against->run(count, deterministic);
      }
      for (int64_t i = 0; i < count; ++i) {
        const auto row = logits.subspan(i * vocab, vocab);
        if (options.on_logits && !(adds_begin && done + i == 0)) options.on_logits(row);
        if (done + i + 1 >= length) continue;
        const TokenId next = window[done + i + 1];
        ++score.tokens;
        nll.add(log_sum_exp(row) - row[next]);
        if (options.against) kl.add(divergence(row, other.subspan(i * vocab, vocab)));
      }
      done += count;
      if (options.on_progress)
        options.on_progress(start + std::max<int64_t>(0, done - (adds_begin ? 1 : 0)), total);
    }
    start += taken;
  }
  score.nll_sum = nll.sum();
  score.standard_error = nll.standard_error();
  if (options.against) {
    score.kl_sum = kl.sum();
    score.kl_standard_error = kl.standard_error();
  }
  return score;
}

}  // namespace kvasir::engine

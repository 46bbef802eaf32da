#include "engine/cpu_executor.h"

#include "base/check.h"
#include "models/forward.h"

namespace kvasir::engine {

int64_t model_max_length(const formats::ModelConfig& config) {
  if (config.rope.scaling != formats::RopeScaling::kDynamic) return config.max_positions;
  return static_cast<int64_t>(static_cast<double>(config.max_positions) * config.rope.factor);
}

CpuExecutor::CpuExecutor(ThreadPool& pool, const models::CpuWeights& weights,
                         const kernels::PagePool& pages, const models::ScratchOptions& options)
    : pool_(pool),
      weights_(weights),
      options_(options),
      rotary_(weights.config.rope, weights.config.head_dim, weights.config.max_positions),
      ops_({.pool = pool}, weights, pages, options) {}

void CpuExecutor::lay_out(const Step& step) {
  layout_.tokens.clear();
  layout_.logit_rows.clear();
  layout_.spans.clear();
  layout_.deterministic = step.deterministic;
  for (const StepSpan& span : step.spans) {
    models::SpanLayout row{.first_row = layout_.rows(),
                           .rows = static_cast<int64_t>(span.tokens.size()),
                           .first_position = span.first_position,
                           .page_tables = span.page_tables,
                           .first_logit_row = static_cast<int64_t>(layout_.logit_rows.size()),
                           .logit_rows = span.logit_rows(),
                           .planner = span.planner,
                           .prompt_length = span.prompt_length,
                           .stored = span.stored,
                           .compressor = span.compressor,
                           .kept = span.kept,
                           .kept_tables = span.kept_tables};
    layout_.tokens.insert(layout_.tokens.end(), span.tokens.begin(), span.tokens.end());
    for (int64_t i = row.rows - row.logit_rows; i < row.rows; ++i)
      layout_.logit_rows.push_back(static_cast<int32_t>(row.first_row + i));
    layout_.spans.push_back(row);
  }
  const int64_t width = rotary_.rotary_dim();
  layout_.cos_sin.resize(layout_.rows() * width);
  for (size_t i = 0; i < step.spans.size(); ++i)
    rotary_.fill(step.spans[i].first_position, layout_.spans[i].rows, step.spans[i].rope_length,
                 layout_.cos_sin.data() + layout_.spans[i].first_row * width);
}

Result<StepResult> CpuExecutor::run(const Step& step) {
  if (auto checked = check_step(step, options_, vocab_size()); !checked) return checked.error();
  lay_out(step);
  ops_.begin_step(layout_, step.cancel);
  logits_ = static_cast<const float*>(models::forward(ops_, weights_).data);
  if (ops_.stopped()) return Error(ErrorCode::kCancelled, "the step was cancelled");

  StepResult result;
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const models::CpuOps::SpanCount& count = ops_.span_counts()[i];
    result.spans.push_back({.scored_pairs = count.scored_pairs,
                            .causal_pairs = causal_pairs(step.spans[i], weights_.config),
                            .planned_heads = count.planned_heads,
                            .dense_heads = count.dense_heads,
                            .plan_seconds = count.plan_seconds,
                            .attention_seconds = ops_.attention_seconds()});
  }
  return result;
}

std::vector<Result<SampleResult>> CpuExecutor::sample(std::span<const Draw> draws) {
  std::vector<Result<SampleResult>> results(draws.size(), SampleResult{});
  pool_.parallel(std::ssize(draws), [&](int64_t i, int) {
    const Draw& draw = draws[static_cast<size_t>(i)];
    Result<SampleResult>& result = results[static_cast<size_t>(i)];
    try {
      const auto row = logits(draw.span).last(static_cast<size_t>(vocab_size()));
      result = draw.sampler->sample(row, draw.position, draw.top);
    } catch (const std::exception& error) {  // a body of the pool must not throw
      result = Error(ErrorCode::kInternal, error.what(), "sampling");
    }
  });
  return results;
}

std::span<const float> CpuExecutor::logits(size_t span) {
  if (!logits_) return {};  // an observer looks on
  const models::SpanLayout& place = layout_.spans.at(span);
  return {logits_ + place.first_logit_row * vocab_size(),
          static_cast<size_t>(place.logit_rows * vocab_size())};
}

}  // namespace kvasir::engine

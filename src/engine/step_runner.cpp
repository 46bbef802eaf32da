#include "engine/step_runner.h"

#include <algorithm>

namespace kvasir::engine {

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return Error(ErrorCode::kInternal, error.what(), "engine loop");
  } catch (...) {
    return Error(ErrorCode::kInternal, "an exception of unknown type", "engine loop");
  }
}

bool StepRunner::run(const Scheduler::Plan& plan, const CancelToken& token) {
  const double started = options_.now_seconds();
  for (const Scheduler::Work& work : plan.work) {
    if (work.request->first_step_seconds) continue;
    work.request->first_step_seconds = started;
    work.request->send_progress(work.request->cached_tokens);
  }
  const auto result = execute(plan, token);
  if (!result) {
    if (result.error().code() == ErrorCode::kCancelled && token.cancelled()) return false;
    for (const Scheduler::Work& work : plan.work)
      end(*work.request, {FinishReason::kError, result.error()});
    return true;
  }
  draws_.clear();
  drawers_.clear();
  for (size_t i = 0; i < plan.work.size(); ++i) {
    const Scheduler::Work& work = plan.work[i];
    if (work.sample->finished) continue;  // with another sample of its request, by an error
    try {
      take(plan, i, result.value().spans.at(i));
    } catch (...) {
      end(*work.request, {FinishReason::kError, current_error()});
    }
  }
  draw();
  return true;
}

Result<StepResult> StepRunner::execute(const Scheduler::Plan& plan, const CancelToken& token) {
  Step step{.spans = {}, .deterministic = options_.deterministic, .cancel = &token};
  step.spans.reserve(plan.work.size());
  for (const Scheduler::Work& work : plan.work) step.spans.push_back(work.span);
  try {
    return executor_.run(step);
  } catch (...) {
    return current_error();
  }
}

void StepRunner::take(const Scheduler::Plan& plan, size_t index, const SpanResult& result) {
  const Scheduler::Work& work = plan.work[index];
  LiveRequest& request = *work.request;
  Sample& sample = *work.sample;
  kv_.commit(sample.sequence, work.span.tokens);
  if (work.span.compressor) scheduler_.evict(request, sample);
  (work.span.is_prefill ? request.prefill : sample.decode).add(result);
  if (work.span.first_position < request.prompt_size())
    request.send_progress(kv_.length(sample.sequence));
  if (request.request.max_tokens == 0 && kv_.length(sample.sequence) == request.prompt_size()) {
    request.first_token_seconds = options_.now_seconds();
    for (Sample& each : request.samples) finish(request, each, {FinishReason::kLength, {}});
    return;
  }
  if (work.span.logits == StepSpan::Logits::kNone) return;
  if (request.prompt_done) {
    add_draw(request, sample, index);
    return;
  }
  request.prompt_done = true;
  scheduler_.fork_samples(request).value();
  for (Sample& each : request.samples) add_draw(request, each, index);
}

void StepRunner::add_draw(LiveRequest& request, Sample& sample, size_t span) {
  draws_.push_back({.span = span,
                    .sampler = &sample.sampler,
                    .position = request.length(sample),
                    .top = request.request.top_logprobs.value_or(-1)});
  drawers_.push_back({&request, &sample});
}

void StepRunner::draw() {
  if (draws_.empty()) return;
  std::vector<Result<SampleResult>> results;
  try {
    results = executor_.sample(draws_);
  } catch (...) {
    results.assign(draws_.size(), current_error());
  }
  for (size_t i = 0; i < draws_.size(); ++i) {
    LiveRequest& request = *drawers_[i].request;
    Sample& sample = *drawers_[i].sample;
    if (sample.finished) continue;  // with another sample of its request, by an error
    try {
      take_token(request, sample, std::move(results.at(i)).value());
    } catch (...) {
      end(request, {FinishReason::kError, current_error()});
    }
  }
}

void StepRunner::take_token(LiveRequest& request, Sample& sample, SampleResult chosen) {
  const TokenId token = chosen.token;
  const auto is_in = [token](std::span<const TokenId> tokens) {
    return std::ranges::find(tokens, token) != tokens.end();
  };
  const bool is_end_token = is_in(request.request.stop_tokens) ||
                            (!request.request.ignore_end_tokens && is_in(options_.end_tokens));
  std::string text = is_end_token ? std::string() : sample.text.push(token);

  sample.sampler.add_answer(token);
  sample.answer.push_back(token);
  sample.last_token_seconds = options_.now_seconds();
  if (sample.answer.size() == 1) sample.first_token_seconds = sample.last_token_seconds;
  if (!request.first_token_seconds) request.first_token_seconds = sample.last_token_seconds;
  request.send_token(sample, std::move(chosen), std::move(text));
  if (const auto reason = ending(request, sample, is_end_token))
    finish(request, sample, {*reason, std::nullopt});
}

// Says what the sample's KV came to, and gives it back.
void StepRunner::finish(LiveRequest& request, Sample& sample, const Ending& ending) {
  if (sample.sequence != kv::kNoSequence) {
    const int layers = kv_.geometry().layers;
    int64_t stored = 0;
    for (int layer = 0; layer < layers; ++layer) {
      const int64_t entries = kv_.stored_length(sample.sequence, layer);
      stored += entries;
      sample.kv_bytes += kv::blocks_for(entries) * kv_.geometry().page_bytes();
    }
    sample.kept_fraction =
        static_cast<double>(stored) / static_cast<double>(layers * kv_.length(sample.sequence));
  }
  request.finish(sample, ending);
  scheduler_.release(sample);
}

std::optional<FinishReason> StepRunner::ending(const LiveRequest& request, const Sample& sample,
                                               bool is_end_token) const {
  if (is_end_token || sample.text.stopped()) return FinishReason::kStop;
  // The last token needs a position only if another follows it.
  if (std::ssize(sample.answer) >= request.request.max_tokens ||
      request.length(sample) > positions_)
    return FinishReason::kLength;
  return std::nullopt;
}

void StepRunner::end(LiveRequest& request, const Ending& ending) {
  request.finish_all(ending);
  for (Sample& sample : request.samples) scheduler_.release(sample);
}

}  // namespace kvasir::engine

#include "engine/live_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace kvasir::engine {
namespace {

std::string fallback_reason(const std::string& choice, const AttentionCount& prefill) {
  if (prefill.dense_heads == 0) return choice;
  return fmt::format("{}{}{} of {} head plans dense, as they would have saved too little", choice,
                     choice.empty() ? "" : "; ", prefill.dense_heads, prefill.planned_heads);
}

}  // namespace

LiveRequest::LiveRequest(Request asked, kv::Domain domain, int64_t vocab_size,
                         const std::function<std::unique_ptr<Detokenizer>()>& make_detokenizer)
    : request(std::move(asked)), domain(domain) {
  samples.reserve(static_cast<size_t>(request.samples));
  for (int index = 0; index < request.samples; ++index) {
    samples.push_back({.index = index,
                       .answer = {},
                       .sampler = Sampler(request.sampling, index, vocab_size),
                       .text = AnswerText(make_detokenizer(), request.stop),
                       .kept = {},
                       .decode = {}});
    samples.back().sampler.add_prompt(request.prompt);
  }
}

std::vector<TokenId> LiveRequest::tokens(const Sample& sample) const {
  std::vector<TokenId> all = request.prompt;
  all.insert(all.end(), sample.answer.begin(), sample.answer.end());
  return all;
}

int64_t LiveRequest::unfinished_samples() const {
  return std::ranges::count_if(samples, [](const Sample& sample) { return !sample.finished; });
}

void LiveRequest::send_progress(int64_t prompt_done) {
  // Positions computed again after the request was set aside are no news.
  if (prompt_done <= progress_sent) return;
  progress_sent = prompt_done;
  Event event;
  event.kind = Event::Kind::kProgress;
  event.prompt_done = prompt_done;
  event.prompt_total = prompt_size();
  events->push(std::move(event), false);
}

void LiveRequest::send_token(Sample& sample, SampleResult result, std::string text) {
  Event event;
  event.kind = Event::Kind::kToken;
  event.sample = sample.index;
  event.token = result.token;
  event.text = std::move(text);
  if (request.top_logprobs) {
    event.logprob = TokenLogprob{result.token, result.logprob};
    event.top_logprobs = std::move(result.top_logprobs);
  }
  events->push(std::move(event), false);
}

void LiveRequest::finish(Sample& sample, Ending ending) {
  KVASIR_CHECK(!sample.finished);
  Event event;
  event.kind = Event::Kind::kFinished;
  event.sample = sample.index;
  try {
    event.text = sample.text.finish();
  } catch (const std::exception& error) {
    ending = {FinishReason::kError, Error(ErrorCode::kInternal, error.what(), "detokenizer")};
  }
  // The last bytes can complete a stop string, too.
  if (ending.reason == FinishReason::kLength && sample.text.stopped())
    ending.reason = FinishReason::kStop;
  event.finish_reason = ending.reason;
  event.usage = {.prompt_tokens = prompt_size(),
                 .cached_tokens = cached_tokens,
                 .completion_tokens = std::ssize(sample.answer)};
  if (first_token_seconds)
    event.timing.prefill_seconds = *first_token_seconds - first_step_seconds.value_or(0);
  if (!sample.answer.empty()) {
    event.timing.ttft_seconds = sample.first_token_seconds - submitted_seconds;
    event.timing.decode_seconds = sample.last_token_seconds - sample.first_token_seconds;
    if (event.timing.decode_seconds > 0)
      event.timing.decode_tokens_per_second =
          static_cast<double>(sample.answer.size() - 1) / event.timing.decode_seconds;
  }
  event.attention = {.prefill = request.stages.prefill.name,
                     .compress = request.stages.compress.name,
                     .retrieve = request.stages.retrieve.name,
                     .computed_fraction = prefill.fraction(),
                     .decode_fraction = sample.decode.fraction(),
                     .planned_heads = prefill.planned_heads,
                     .dense_heads = prefill.dense_heads,
                     .plan_seconds = prefill.plan_seconds,
                     .attention_seconds = prefill.attention_seconds,
                     .kv_bytes = sample.kv_bytes,
                     .kept_fraction = sample.kept_fraction,
                     .fallback_reason = fallback_reason(choice_reason, prefill)};
  event.error = std::move(ending.error);
  sample.finished = true;
  events->push(std::move(event), unfinished_samples() == 0);
}

void LiveRequest::finish_all(const Ending& ending) {
  for (Sample& sample : samples)
    if (!sample.finished) finish(sample, ending);
}

}  // namespace kvasir::engine

#include "engine/scheduler.h"

#include <algorithm>

#include "engine/stages.h"

namespace kvasir::engine {
namespace {

// A common prefix shorter than this is computed again rather than waited for: a step over so few
// more rows takes hardly longer, as reading the weights dominates.
constexpr int64_t kWorthWaiting = 16;

int64_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

}  // namespace

Scheduler::Plan Scheduler::plan(Requests& waiting, bool may_admit) {
  Plan plan;
  room_ = limits_.step_tokens;
  set_aside_outgrown();
  plan_decode(plan);
  plan_prefill(plan);
  plan_set_aside(plan);
  if (may_admit || running_.empty()) admit(plan, waiting);
  if (plan.work.empty() && !(running_.empty() && waiting.empty())) {
    plan.stuck = running_.empty() ? waiting.front().get() : running_.front().get();
    plan.refusal = refusal_;
    blocks_refused_ = false;
    return plan;
  }
  // Only now: whatever changes blocks may move page tables.
  for (Work& work : plan.work)
    for (int layer = 0; layer < kv_.geometry().layers; ++layer)
      work.span.page_tables.push_back(kv_.page_table(work.sample->sequence, layer).data());
  return plan;
}

// With LongRoPE, KV of sequences up to the length and that of longer ones are of two kinds.
kv::Domain Scheduler::domain(const LiveRequest& request, int64_t length) const {
  const int64_t from = limits_.long_rope_from;
  return from == 0 || length <= from ? request.domain : rope_domain(request.domain, from);
}

void Scheduler::set_aside_outgrown() {
  if (limits_.long_rope_from == 0) return;
  for (const auto& request : running_)
    for (Sample& sample : request->samples)
      if (sample.sequence != kv::kNoSequence &&
          sample.domain != domain(*request, request->length(sample)))
        release(sample);
}

// The oldest reserve first, so that whoever is set aside has not been planned yet.
void Scheduler::plan_decode(Plan& plan) {
  for (const auto& request : running_)
    for (Sample& sample : request->samples) {
      if (sample.sequence == kv::kNoSequence) continue;
      const int64_t length = request->length(sample);
      if (kv_.length(sample.sequence) + 1 == length && reserve(sample, length))
        add(plan, *request, sample);
    }
}

void Scheduler::plan_prefill(Plan& plan) {
  for (const auto& request : running_)
    for (Sample& sample : request->samples)
      if (room_ > 0 && sample.sequence != kv::kNoSequence &&
          kv_.length(sample.sequence) + 1 < request->length(sample))
        add(plan, *request, sample);
}

// Samples set aside go on, oldest first. Where one cannot, nothing younger starts either: the step
// has no room, or blocks are refused.
void Scheduler::plan_set_aside(Plan& plan) {
  for (const auto& request : running_)
    for (Sample& sample : request->samples) {
      if (!starts(*request, sample) || awaits_sibling(*request, sample)) continue;
      if (room_ == 0 || blocks_refused_ || !start(*request, sample)) return;
      add(plan, *request, sample);
    }
}

void Scheduler::admit(Plan& plan, Requests& waiting) {
  int64_t free = limits_.max_sequences;
  for (const auto& request : running_) free -= request->unfinished_samples();
  for (auto next = waiting.begin(); next != waiting.end();) {
    LiveRequest& request = **next;
    if (room_ == 0 || free <= 0 || blocks_refused_) return;
    if (awaits_prefix(request)) {
      ++next;
      continue;
    }
    if (request.unfinished_samples() > free || !start(request, request.first())) return;
    free -= request.unfinished_samples();
    running_.push_back(std::move(*next));
    next = waiting.erase(next);
    add(plan, request, request.first());
  }
}

// Whether the sample should hold KV and does not.
bool Scheduler::starts(const LiveRequest& request, const Sample& sample) const {
  return sample.sequence == kv::kNoSequence && !sample.finished &&
         (request.prompt_done || &sample == &request.first());
}

// Whether another sample is computing the prompt that this one needs, too.
bool Scheduler::awaits_sibling(const LiveRequest& request, const Sample& sample) const {
  return std::ranges::any_of(request.samples, [&](const Sample& other) {
    return &other != &sample && other.sequence != kv::kNoSequence &&
           other.domain == domain(request, request.length(sample)) &&
           kv_.length(other.sequence) < request.prompt_size();
  });
}

// Opens the sample's sequence with room for all of its tokens; false where there is none.
bool Scheduler::start(LiveRequest& request, Sample& sample) {
  const std::vector<TokenId> tokens = request.tokens(sample);
  sample.domain = domain(request, std::ssize(tokens));
  const kv::SequenceId sequence = kv_.open(sample.domain, tokens);
  if (auto reserved = kv_.reserve(sequence, std::ssize(tokens)); !reserved) {
    kv_.release(sequence, false);
    blocks_refused_ = true;
    refusal_ = reserved.error();
    return false;
  }
  sample.sequence = sequence;
  if (!request.first_step_seconds) request.cached_tokens = kv_.length(sequence);
  return true;
}

bool Scheduler::reserve(Sample& sample, int64_t length) {
  for (;;) {
    const auto reserved = kv_.reserve(sample.sequence, length);
    if (reserved) return true;
    refusal_ = reserved.error();
    Sample* youngest = youngest_with_kv();
    if (youngest == &sample) {
      blocks_refused_ = true;
      return false;
    }
    release(*youngest);
  }
}

Sample* Scheduler::youngest_with_kv() {
  for (auto request = running_.rbegin(); request != running_.rend(); ++request)
    for (auto sample = (*request)->samples.rbegin(); sample != (*request)->samples.rend(); ++sample)
      if (sample->sequence != kv::kNoSequence) return &*sample;
  return nullptr;
}

// Whether a running prompt is about to compute tokens that `waiting` starts with and that are not
// there yet. The prompt awaited is remembered: what it has in common never changes.
bool Scheduler::awaits_prefix(LiveRequest& waiting) const {
  const auto is_computing = [](const LiveRequest& request) {
    return !request.prompt_done && request.first().sequence != kv::kNoSequence;
  };
  if (waiting.awaited)
    for (const auto& request : running_)
      if (request->id == waiting.awaited->id && is_computing(*request) &&
          kv_.length(request->first().sequence) < waiting.awaited->length)
        return true;
  waiting.awaited.reset();
  const kv::Domain own = domain(waiting, waiting.prompt_size());
  const auto prompt = std::span(waiting.request.prompt).first(waiting.request.prompt.size() - 1);
  int64_t known = -1;
  for (const auto& request : running_) {
    if (!is_computing(*request) || request->first().domain != own) continue;
    const int64_t common = common_prefix(request->request.prompt, prompt);
    if (common < kWorthWaiting) continue;
    if (known < 0) known = kv_.match_length(own, waiting.request.prompt);
    if (common - known < kWorthWaiting) continue;
    waiting.awaited = {.id = request->id, .length = common};
    return true;
  }
  return false;
}

// How many of `count` positions from `first` on share one rotary scaling.
int64_t Scheduler::rope_run(const LiveRequest& request, int64_t first, int64_t count) const {
  const int64_t fixed = limits_.dynamic_rope_from;
  if (fixed == 0 || first < request.prompt_size() || first + count <= fixed) return count;
  return std::max<int64_t>(1, fixed - first);
}

// The next tokens of a sample that holds KV. Prompt and answer never share a span: they lie apart
// and, with dynamic rotary scaling, are rotated differently. With LongRoPE all of them rotate as
// the whole length says. Prompts whose plans depend on the chunk are cut at multiples of its size
// only, so that they come out the same in any batch; where a step has no room left they wait. The
// oldest finds room always, as others only decode before it.
void Scheduler::add(Plan& plan, LiveRequest& request, Sample& sample) {
  const int64_t first = kv_.length(sample.sequence), prompt = request.prompt_size();
  const int64_t length = request.length(sample);
  const bool in_prompt = first < prompt;
  const int64_t rest = (in_prompt ? prompt : length) - first;
  const prefill::Planner* planner = in_prompt ? request.planner.get() : nullptr;
  int64_t chunk = limits_.chunk_tokens;
  if (planner && planner->plans_from_queries()) {
    const int64_t grid = std::min(chunk, limits_.step_tokens - limits_.max_sequences + 1);
    chunk = std::min(rest, grid - first % grid);
    if (chunk > room_) return;
  }
  const int64_t count = rope_run(request, first, std::min({rest, chunk, room_}));
  const std::span<const TokenId> tokens =
      in_prompt ? std::span(request.request.prompt).subspan(first, count)
                : std::span(sample.answer).subspan(first - prompt, count);
  const int64_t rope_length = limits_.long_rope_from > 0 ? length
                              : in_prompt                ? prompt
                                                         : first + count;
  room_ -= count;
  plan.work.push_back({&request, &sample,
                       StepSpan{.tokens = tokens,
                                .first_position = first,
                                .page_tables = {},
                                .rope_length = rope_length,
                                .is_prefill = in_prompt || first + 1 < length,
                                .planner = planner,
                                .prompt_length = prompt,
                                .logits = first + count == length ? StepSpan::Logits::kLast
                                                                  : StepSpan::Logits::kNone}});
}

Result<void> Scheduler::fork_samples(LiveRequest& request) {
  for (Sample& sample : request.samples) {
    if (&sample == &request.first()) continue;
    auto fork = kv_.fork(request.first().sequence);
    if (!fork) return fork.error();
    sample.sequence = fork.value();
    sample.domain = request.first().domain;
  }
  return {};
}

void Scheduler::release(Sample& sample) {
  if (sample.sequence != kv::kNoSequence) kv_.release(sample.sequence, true);
  sample.sequence = kv::kNoSequence;
  blocks_refused_ = false;
}

Scheduler::Requests Scheduler::take_finished() {
  Requests finished;
  for (auto& request : running_)
    if (request->unfinished_samples() == 0) finished.push_back(std::move(request));
  std::erase(running_, nullptr);
  return finished;
}

}  // namespace kvasir::engine

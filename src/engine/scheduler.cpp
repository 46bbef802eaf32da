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
  for (Work& work : plan.work) {
    const kv::SequenceId sequence = work.sample->sequence;
    for (int layer = 0; layer < kv_.geometry().layers; ++layer) {
      work.span.page_tables.push_back(kv_.page_table(sequence, layer).data());
      if (kv_.is_compacted(sequence))
        work.span.stored.push_back(kv_.stored_length(sequence, layer));
      if (work.span.compressor)
        work.span.kept_tables.push_back(kv_.compaction_table(sequence, layer).data());
    }
  }
  return plan;
}

// With LongRoPE, KV of sequences up to the length and that of longer ones are of two kinds.
kv::Domain Scheduler::domain(const LiveRequest& request, int64_t length) const {
  return domain(request.domain, length);
}

kv::Domain Scheduler::domain(kv::Domain of_request, int64_t length) const {
  const int64_t from = limits_.long_rope_from;
  return from == 0 || length <= from ? of_request : rope_domain(of_request, from);
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

// From the compacted KV that the tokens go on from, where there is some, else from the longest
// prefix known: up to the last rows of the prompt, where their queries choose what is evicted.
kv::SequenceId Scheduler::open(const LiveRequest& request, kv::Domain domain,
                               std::span<const TokenId> tokens) {
  const compress::Compressor* compressor = request.compressor.get();
  if (!compressor) return kv_.open(domain, tokens);
  const kv::Domain compacted = this->domain(request.compacted_domain, std::ssize(tokens));
  if (const auto found = kv_.open_compacted(compacted, tokens)) return found;
  const int64_t prompt = request.prompt_size();
  for (int layer = 0; layer < kv_.geometry().layers; ++layer)
    if (compressor->kept(layer, prompt, prompt) < prompt) {
      const int64_t rows = std::max<int64_t>(1, compressor->query_rows());
      return kv_.open(domain, tokens.first(std::max<int64_t>(1, prompt - rows + 1)));
    }
  return kv_.open(domain, tokens);
}

void Scheduler::choose_kept(const LiveRequest& request, Sample& sample) const {
  sample.kept.clear();
  const int64_t length = kv_.length(sample.sequence), prompt = request.prompt_size();
  if (!request.compressor || length >= prompt ||
      (kv_.is_compacted(sample.sequence) && !request.compressor->is_rolling()))
    return;
  bool drops = false;
  for (int layer = 0; layer < kv_.geometry().layers; ++layer) {
    const int64_t entries = kv_.stored_length(sample.sequence, layer) + prompt - length;
    sample.kept.push_back(request.compressor->kept(layer, prompt, entries));
    drops |= sample.kept.back() < entries;
  }
  if (!drops) sample.kept.clear();
}

// Opens the sample's sequence with room for all of its tokens; false where there is none.
bool Scheduler::start(LiveRequest& request, Sample& sample) {
  const std::vector<TokenId> tokens = request.tokens(sample);
  const int64_t length = std::ssize(tokens), prompt = request.prompt_size();
  sample.domain = domain(request, length);
  sample.sequence = open(request, sample.domain, tokens);
  choose_kept(request, sample);
  auto reserved = kv_.reserve(sample.sequence, sample.kept.empty() ? length : prompt);
  if (reserved && !sample.kept.empty())
    reserved = kv_.prepare_compaction(sample.sequence, sample.kept, length - prompt);
  if (!reserved) {
    kv_.release(sample.sequence, false);
    sample.sequence = kv::kNoSequence;
    blocks_refused_ = true;
    refusal_ = reserved.error();
    return false;
  }
  if (!request.first_step_seconds) request.cached_tokens = kv_.length(sample.sequence);
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
  if (waiting.compressor &&
      kv_.compacted_match_length(domain(waiting.compacted_domain, waiting.prompt_size()),
                                 waiting.request.prompt) > 0)
    return false;
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
    if (!is_computing(*request) || request->first().domain != own ||
        kv_.is_compacted(request->first().sequence))
      continue;
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
  const bool may_plan = in_prompt && !kv_.is_compacted(sample.sequence);
  const prefill::Planner* planner = may_plan ? request.planner.get() : nullptr;
  int64_t chunk = limits_.chunk_tokens;
  if (planner && planner->plans_from_queries()) {
    const int64_t grid = std::min(chunk, limits_.step_tokens - limits_.max_sequences + 1);
    chunk = std::min(rest, grid - first % grid);
    if (chunk > room_) return;
  }
  int64_t count = rope_run(request, first, std::min({rest, chunk, room_}));
  const bool evicts = in_prompt && !sample.kept.empty();
  if (evicts) {
    const int64_t last_rows = std::max<int64_t>(1, request.compressor->query_rows());
    if (rest <= last_rows)
      count = rest;
    else if (count < rest)
      count = std::min(count, rest - last_rows);
    if (count > room_) return;
  }
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
                                .stored = {},
                                .kept = {},
                                .kept_tables = {},
                                .is_prefill = in_prompt || first + 1 < length,
                                .planner = planner,
                                .prompt_length = prompt,
                                .logits = first + count == length && request.request.max_tokens > 0
                                              ? StepSpan::Logits::kLast
                                              : StepSpan::Logits::kNone}});
  if (!evicts || count < rest) return;
  plan.work.back().span.compressor = request.compressor.get();
  plan.work.back().span.kept = sample.kept;
}

void Scheduler::evict(LiveRequest& request, Sample& sample) {
  kv_.compact(sample.sequence, domain(request.compacted_domain, request.length(sample)));
  sample.kept.clear();
  blocks_refused_ = false;
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

#include "engine/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/auto_prefill.h"
#include "engine/request_check.h"
#include "engine/scheduler.h"
#include "engine/stages.h"
#include "engine/step_runner.h"

namespace kvasir::engine {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Ending cancelled() {
  return {FinishReason::kCancelled, Error(ErrorCode::kCancelled, "the request was cancelled")};
}

LoopOptions resolve(LoopOptions options, const Executor& executor) {
  if (options.chunk_tokens < 1 || options.step_tokens < 1 || options.max_sequences < 1)
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("expected at least one token of a chunk and of a step and one sequence, "
                    "found {}, {} and {}",
                    options.chunk_tokens, options.step_tokens, options.max_sequences),
        "engine loop");
  options.step_tokens = std::min(options.step_tokens, executor.max_step_tokens());
  options.max_sequences = std::min(options.max_sequences, options.step_tokens);
  if (!options.now_seconds) options.now_seconds = steady_seconds;
  return options;
}

}  // namespace

struct Loop::Impl {
  Impl(Executor& executor, kv::KvManager& kv, LoopOptions given)
      : options(resolve(std::move(given), executor)),
        limits{.vocab_size = executor.vocab_size(),
               .max_positions = executor.max_positions(),
               .pool_positions = kv.stats().total_blocks * kv::kBlockTokens,
               .max_sequences = options.max_sequences,
               .deterministic = options.deterministic,
               .gpu = executor.is_on_gpu()},
        model{.layers = kv.geometry().layers,
              .q_heads = options.model.q_heads,
              .folder = options.model.folder},
        scheduler(kv, {.chunk_tokens = options.chunk_tokens,
                       .step_tokens = options.step_tokens,
                       .max_sequences = options.max_sequences,
                       .dynamic_rope_from = options.dynamic_rope_from,
                       .long_rope_from = options.long_rope_from}),
        runner(executor, kv, scheduler, options,
               std::min(limits.max_positions, limits.pool_positions)) {}

  const LoopOptions options;
  const RequestLimits limits;
  const prefill::ModelShape model;
  std::thread thread;

  // Guards what follows. The loop's thread holds it while it plans a step and while it takes
  // finished requests out, and only it touches requests that run, but for their is_cancelled.
  // Streams lock their own mutexes within.
  mutable std::mutex mutex;
  std::condition_variable changed;
  Scheduler::Requests waiting;
  Scheduler scheduler;
  StepRunner runner;
  CancelToken* step_token = nullptr;  // of the step that is running
  RequestId next_id = 1;
  bool is_retry = false;  // a stopped step runs again before anything new starts
  bool is_stopping = false;

  kv::Domain domain(kv::Domain of_stages, const Request& request) const;
  // Puts a method in auto's place; says why that one. Nothing for requests that name one.
  Result<std::string> choose_prefill(Request& request) const;
  Result<void> check_eviction(const Request& request, const compress::Compressor& compressor) const;
  bool step();
  Scheduler::Plan plan_step(CancelToken& token, bool& has_ended_some);
  void end_step(bool was_stopped);
  void end_all(const Ending& ending);
};

Loop::Loop(Executor& executor, kv::KvManager& kv, LoopOptions options)
    : impl_(std::make_unique<Impl>(executor, kv, std::move(options))) {}

Loop::~Loop() { stop(); }

// KV under dynamic rotary scaling is the same for all prompts up to the length where it sets in,
// and beyond it for prompts of one length. Positions of answers beyond it are those of a longer
// sequence, which no other prompt of the domain reaches. For LongRoPE see Scheduler::domain().
kv::Domain Loop::Impl::domain(kv::Domain of_stages, const Request& request) const {
  const kv::Domain domain = group_domain(of_stages, request.kv_group);
  const int64_t from = options.dynamic_rope_from, size = std::ssize(request.prompt);
  return from == 0 || size <= from ? domain : rope_domain(domain, size);
}

Result<std::string> Loop::Impl::choose_prefill(Request& request) const {
  MethodChoice& prefill = request.stages.prefill;
  if (prefill.name != "auto") return std::string();
  prefill::AutoChoice choice{{"dense", {}}, "there are no measurements"};
  if (options.auto_prefill) {
    auto chosen = options.auto_prefill->choose(prefill, request.prompt);
    if (!chosen) return chosen.error();
    choice = std::move(chosen).value();
  }
  prefill = choice.method;
  if (auto checked = check_request(request, limits); !checked) return checked.error();
  return "auto: " + choice.reason;
}

// The prompt and what stays of it lie side by side for a moment, and the rows that choose come in
// one step, with the decode tokens of all others.
Result<void> Loop::Impl::check_eviction(const Request& request,
                                        const compress::Compressor& compressor) const {
  const int64_t rows = options.step_tokens - options.max_sequences + 1;
  if (compressor.query_rows() > rows)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected a window of at most {} queries, which one step has room "
                             "for, found {}; raise --chunk or lower the window",
                             rows, compressor.query_rows()),
                 "--compress");
  const int64_t size = std::ssize(request.prompt);
  int64_t pages = 0;
  bool drops = false;
  for (int layer = 0; layer < model.layers; ++layer) {
    const int64_t kept = compressor.kept(layer, size, size);
    pages += kv::blocks_for(kept);
    drops |= kept < size;
  }
  const int64_t blocks = kv::blocks_for(size) + (pages + model.layers - 1) / model.layers;
  if (!drops || blocks * kv::kBlockTokens <= limits.pool_positions) return {};
  return Error(ErrorCode::kResourceExhausted,
               fmt::format("expected a prompt that fits the KV pool's {} positions together with "
                           "what --compress leaves of it, found {} tokens and {}; shorten the "
                           "prompt, plan for a longer context or keep less",
                           limits.pool_positions, size, pages / model.layers * kv::kBlockTokens),
               "prompt");
}

Result<Submission> Loop::submit(Request request) {
  Impl& loop = *impl_;
  try {
    if (auto checked = check_request(request, loop.limits); !checked) return checked.error();
    auto choice = loop.choose_prefill(request);
    if (!choice) return choice.error();
    auto planner = prefill::make_planner(request.stages.prefill, loop.model);
    if (!planner) return planner.error();
    if (const auto refusal =
            planner.value() && loop.limits.gpu ? planner.value()->gpu_refusal() : std::nullopt)
      return Error(ErrorCode::kUnsupported,
                   request.stages.prefill.name + " does not run with " + *refusal +
                       " on a GPU; use --device cpu",
                   "--prefill");
    auto compressor = compress::make_compressor(
        request.stages.compress,
        {.layers = loop.model.layers, .windows = loop.options.layer_windows});
    if (!compressor) return compressor.error();
    if (compressor.value())
      if (auto checked = loop.check_eviction(request, *compressor.value()); !checked)
        return checked.error();
    const kv::Domain domain =
        loop.domain(prefix_domain(loop.options.domain, request.stages), request);
    const kv::Domain compacted_domain =
        loop.domain(stage_domain(loop.options.domain, request.stages), request);
    auto live = std::make_unique<LiveRequest>(std::move(request), domain, loop.limits.vocab_size,
                                              loop.options.make_detokenizer);
    live->planner = std::move(planner).value();
    live->choice_reason = std::move(choice).value();
    live->compressor = std::move(compressor).value();
    live->compacted_domain = compacted_domain;
    live->submitted_seconds = loop.options.now_seconds();
    Submission submission{.id = 0, .events = live->events};
    {
      std::lock_guard lock(loop.mutex);
      if (loop.is_stopping)
        return Error(ErrorCode::kCancelled, "the engine has been stopped; load it again");
      submission.id = live->id = loop.next_id++;
      loop.waiting.push_back(std::move(live));
    }
    loop.changed.notify_one();
    return submission;
  } catch (...) {
    return current_error();
  }
}

void Loop::cancel(RequestId id) {
  Impl& loop = *impl_;
  std::lock_guard lock(loop.mutex);
  for (auto request = loop.waiting.begin(); request != loop.waiting.end(); ++request)
    if ((*request)->id == id) {
      (*request)->finish_all(cancelled());
      loop.waiting.erase(request);
      return;
    }
  for (const auto& request : loop.scheduler.running())
    if (request->id == id) {
      request->is_cancelled = true;
      if (loop.step_token) loop.step_token->cancel();
    }
}

int64_t Loop::unfinished() const {
  std::lock_guard lock(impl_->mutex);
  return std::ssize(impl_->waiting) +
         std::ranges::count_if(impl_->scheduler.running(), [](const auto& request) {
           return !request->is_cancelled && !request->events->closed();
         });
}

void Loop::start() {
  impl_->thread = std::thread([loop = impl_.get()] {
    for (;;) {
      while (loop->step()) {
      }
      std::unique_lock lock(loop->mutex);
      loop->changed.wait(lock, [loop] { return loop->is_stopping || !loop->waiting.empty(); });
      if (loop->is_stopping) return;
    }
  });
}

void Loop::stop() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->is_stopping = true;
    if (impl_->step_token) impl_->step_token->cancel();
  }
  impl_->changed.notify_one();
  if (impl_->thread.joinable()) impl_->thread.join();
  std::lock_guard lock(impl_->mutex);
  impl_->end_all(cancelled());
}

bool Loop::step() { return impl_->step(); }

bool Loop::Impl::step() {
  try {
    CancelToken token;
    bool has_ended_some = false;
    const Scheduler::Plan plan = plan_step(token, has_ended_some);
    if (plan.work.empty()) return has_ended_some;
    end_step(!runner.run(plan, token));
    return true;
  } catch (...) {
    // A broken invariant or no memory: nothing is known of the requests' state any more.
    std::lock_guard lock(mutex);
    step_token = nullptr;
    end_all({FinishReason::kError, current_error()});
    return true;
  }
}

Scheduler::Plan Loop::Impl::plan_step(CancelToken& token, bool& has_ended_some) {
  std::lock_guard lock(mutex);
  if (is_stopping) return {};
  for (const auto& request : scheduler.running())
    if (request->is_cancelled) runner.end(*request, cancelled());
  has_ended_some = !scheduler.take_finished().empty();
  Scheduler::Plan plan = scheduler.plan(waiting, !std::exchange(is_retry, false));
  if (plan.stuck) {
    const Ending ending{FinishReason::kError,
                        plan.refusal.value_or(Error(ErrorCode::kInternal, "nothing can run"))};
    runner.end(*plan.stuck, ending);
    if (scheduler.take_finished().empty()) waiting.pop_front();
    has_ended_some = true;
  }
  if (!plan.work.empty()) step_token = &token;
  return plan;
}

void Loop::Impl::end_step(bool was_stopped) {
  std::lock_guard lock(mutex);
  step_token = nullptr;
  is_retry = was_stopped;
  scheduler.take_finished();
}

void Loop::Impl::end_all(const Ending& ending) {
  try {
    for (const auto& request : scheduler.running()) runner.end(*request, ending);
  } catch (...) {
    // KV that cannot be given back is lost; the streams must end all the same.
    for (const auto& request : scheduler.running()) request->finish_all(ending);
  }
  scheduler.take_finished();
  for (const auto& request : waiting) request->finish_all(ending);
  waiting.clear();
}

}  // namespace kvasir::engine

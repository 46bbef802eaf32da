#pragma once
// The engine: a loop over steps. Requests come in and events go out through queues; one thread owns
// the loop, the KV manager and the executor. Each step carries decode tokens of all running samples
// and prefill chunks of as many prompts as fit (continuous batching). What goes first, who shares
// whose KV and what happens where KV runs out: scheduler.h.
//
// A request ends in one of four ways, and its stream always ends: stopped, at its length,
// cancelled, or with an error. An error of the executor ends the requests of that step; the loop
// goes on. Nothing is thrown across it.

#include <functional>
#include <memory>

#include "engine/answer_text.h"
#include "engine/event_stream.h"
#include "engine/executor.h"
#include "kv/kv_manager.h"
#include "kvasir/request.h"

namespace kvasir::engine {

class AutoPrefill;

struct LoopOptions {
  int64_t chunk_tokens = 1024;  // prefill tokens of one sequence in one step, at most
  int64_t step_tokens = 1024;   // tokens of one step, at most (decode tokens go first)
  int64_t max_sequences = 64;   // samples running at once, at most step_tokens; more wait
  bool deterministic = false;
  // What the options of prefill methods are checked against; layers are those of the KV.
  prefill::ModelShape model;
  std::shared_ptr<AutoPrefill> auto_prefill;  // null: prompts with --prefill auto are dense
  std::vector<int64_t> layer_windows;  // the model's sliding windows; empty = none
  std::vector<TokenId> end_tokens;     // of the model
  kv::Domain domain = 0;  // of the model; the loop mixes in the request's stages and options
  // Dynamic rotary scaling: in sequences longer than this, keys depend on the length that the
  // prompt has, or the answer had when it was written. KV is then shared between prompts of one
  // length only. 0 = no such scaling.
  int64_t dynamic_rope_from = 0;
  // LongRoPE: sequences longer than this rotate otherwise than those up to it, from their first
  // position on. Both kinds share KV among themselves; an answer that passes this length goes on
  // from KV that is computed again. 0 = no such scaling.
  int64_t long_rope_from = 0;
  // Called by submit(), on any thread.
  std::function<std::unique_ptr<Detokenizer>()> make_detokenizer;
  std::function<double()> now_seconds;  // monotonic clock, any thread; null = steady_clock
};

struct Submission {
  RequestId id = 0;
  std::shared_ptr<EventStream> events;
};

class Loop {
 public:
  // `executor` and `kv` outlive the loop and belong to its thread while it runs. Throws
  // kInvalidArgument for sizes below one.
  Loop(Executor& executor, kv::KvManager& kv, LoopOptions options);
  ~Loop();  // stop()

  // Any thread. Refusals (empty prompt, too long for the model or for all of the KV pool, more
  // samples than ever run at once, options and token ids out of range, unknown method or refused
  // combination) come back as an error.
  //
  // The answer ends where the KV pool or the model's positions do (kLength), if not earlier.
  Result<Submission> submit(Request request);
  // Any thread. Takes effect within one tile of the running step, which then runs again without the
  // request; its samples finish with kCancelled. Unknown or finished ids are ignored.
  void cancel(RequestId id);
  // Requests that have neither ended nor been cancelled. Any thread.
  int64_t unfinished() const;

  // Starts the thread that calls step() for ever. Without it, tests drive step() themselves.
  void start();
  // Ends the thread. What still runs or waits is finished as cancelled, its KV given back; further
  // requests are refused. Executor and KV manager are not used afterwards.
  void stop();
  // One step; false = nothing to do. Only where start() was not called.
  bool step();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir::engine

#pragma once
// The engine: a loop over steps. Requests come in and events go out through queues; one thread owns
// the loop, the KV manager and the executor. Each step carries decode tokens of all running samples
// and prefill chunks of as many prompts as fit (continuous batching).

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/executor.h"
#include "kv/kv_manager.h"
#include "kvasir/request.h"

namespace kvasir::engine {

// Turns a sample's tokens into text piece by piece (text::TokenDecoder behind a small interface, so
// that the loop runs without a tokenizer in tests).
class Detokenizer {
 public:
  virtual ~Detokenizer() = default;
  virtual std::string push(TokenId token) = 0;  // complete UTF-8 only
  virtual std::string finish() = 0;
};

struct LoopOptions {
  int64_t chunk_tokens = 1024;  // prefill tokens of one sequence in one step, at most
  int64_t step_tokens = 1024;   // tokens of one step, at most (decode tokens go first)
  int64_t max_sequences = 64;   // samples running at once; more wait
  bool deterministic = false;
  std::vector<TokenId> end_tokens;  // of the model
  kv::Domain domain = 0;  // of the model; the loop mixes in the request's stages and options
  bool rope_depends_on_length = false;  // dynamic scaling: KV is shared only between equal rope
                                        // lengths (0 below max_positions)
  std::function<std::unique_ptr<Detokenizer>()> make_detokenizer;
  std::function<double()> now_seconds;  // monotonic clock; null = steady_clock
};

// The events of one request, in order. Thread-safe; one consumer.
class EventStream {
 public:
  Event next();                     // blocks; must not be called after the stream has ended
  std::optional<Event> try_next();  // empty: nothing there now
  bool wait_for(
      std::chrono::milliseconds timeout);  // true: an event is there or the stream has ended
  bool ended() const;                      // the last event has been taken

 private:
  friend class Loop;
  void push(Event event, bool last);
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  bool closed_ = false;
};

struct Submission {
  RequestId id = 0;
  std::shared_ptr<EventStream> events;
};

class Loop {
 public:
  // `executor` and `kv` outlive the loop and belong to its thread while it runs.
  Loop(Executor& executor, kv::KvManager& kv, LoopOptions options);
  ~Loop();  // stops the thread; what still runs is finished as cancelled

  // Any thread. Refusals (empty prompt, too long for the model or for all of the KV pool, bad
  // sampling options, token ids out of range, unknown method or refused combination) come back as
  // an error.
  Result<Submission> submit(Request request);
  // Any thread. Takes effect within one tile of the running step; the request's samples finish with
  // kCancelled. Unknown or finished ids are ignored.
  void cancel(RequestId id);

  // Starts the thread that calls step() for ever. Without it, tests drive step() themselves.
  void start();
  // One step; false = nothing to do. Only where start() was not called.
  bool step();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir::engine

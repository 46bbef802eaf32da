#pragma once
// Decides what each step carries and which samples hold KV.
//
// Age is the order of admission, and within a request that of its samples. Every decision follows
// it:
//   - One token of every sample that decodes goes first, then chunks of prompts, oldest first, as
//     far as the step has room.
//   - A waiting request is admitted when the step has room, enough of max_sequences is free, the KV
//     of its whole prompt can be reserved and nothing older is set aside. First come, first served,
//     except that a request steps back while an admitted prompt that starts with the same tokens is
//     being computed: it takes that KV over afterwards instead of computing it twice.
//   - Where a sample needs a block and none is left, the youngest one that holds KV is set aside:
//     its blocks stay cached, and it goes on later from what is left of them, computing the rest
//     again. A sample with nothing younger waits. So the oldest can take the whole pool, in which
//     every sequence fits; it never fails, it ends, and then the next one is the oldest: nothing
//     starves and nothing deadlocks.
//   - Where entries are evicted after a prompt, room for what stays is made at the start; the last
//     chunk holds as many rows as the method looks at, and is waited for as a whole.
//   - With LongRoPE, a sample whose answer passes the length is set aside likewise and goes on from
//     KV of the other kind. Of samples that need the same prompt computed again, one does it.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "engine/live_request.h"
#include "kv/kv_manager.h"

namespace kvasir::engine {

class Scheduler {
 public:
  struct Limits {
    int64_t chunk_tokens = 0, step_tokens = 0;
    int64_t max_sequences = 0;      // at most step_tokens, so that all can decode in one step
    int64_t dynamic_rope_from = 0;  // see LoopOptions
    int64_t long_rope_from = 0;     // see LoopOptions
  };
  using Requests = std::deque<std::unique_ptr<LiveRequest>>;

  struct Work {
    LiveRequest* request = nullptr;
    Sample* sample = nullptr;
    StepSpan span;
  };
  // Valid until the scheduler is asked for anything else.
  struct Plan {
    std::vector<Work> work;
    // Set where nothing can run although there is something to do: KV is held outside the loop.
    LiveRequest* stuck = nullptr;
    std::optional<Error> refusal;
  };

  Scheduler(kv::KvManager& kv, const Limits& limits) : kv_(kv), limits_(limits) {}

  // Plans a step; moves requests from `waiting` to running(). Without `may_admit` nothing new
  // starts beside what runs already.
  Plan plan(Requests& waiting, bool may_admit);

  const Requests& running() const { return running_; }

  // After the prompt's last position: the other samples start from the first one's KV.
  Result<void> fork_samples(LiveRequest& request);
  // After the step that has copied what stays of a sample's KV: that takes its place.
  void evict(LiveRequest& request, Sample& sample);
  // Gives back a sample's KV; what was computed stays cached.
  void release(Sample& sample);
  // Takes out the requests that have no unfinished sample.
  Requests take_finished();

 private:
  bool starts(const LiveRequest& request, const Sample& sample) const;
  bool start(LiveRequest& request, Sample& sample);
  bool reserve(Sample& sample, int64_t length);
  Sample* youngest_with_kv();
  bool awaits_prefix(LiveRequest& request) const;
  kv::Domain domain(const LiveRequest& request, int64_t length) const;
  kv::Domain domain(kv::Domain of_request, int64_t length) const;
  kv::SequenceId open(const LiveRequest& request, kv::Domain domain,
                      std::span<const TokenId> tokens);
  void choose_kept(const LiveRequest& request, Sample& sample) const;
  void set_aside_outgrown();
  bool awaits_sibling(const LiveRequest& request, const Sample& sample) const;
  int64_t rope_run(const LiveRequest& request, int64_t first, int64_t count) const;

  void plan_decode(Plan& plan);
  void plan_prefill(Plan& plan);
  void plan_set_aside(Plan& plan);
  void admit(Plan& plan, Requests& waiting);
  void add(Plan& plan, LiveRequest& request, Sample& sample);

  kv::KvManager& kv_;
  Limits limits_;
  Requests running_;  // oldest first
  int64_t room_ = 0;  // tokens that the step being planned still takes
  // And none given back since: nothing need try to start.
  bool blocks_refused_ = false;
  std::optional<Error> refusal_;
};

}  // namespace kvasir::engine

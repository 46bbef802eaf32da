#pragma once
// Carries out a planned step: runs the executor, commits KV, chooses tokens and sends events. On
// the loop's thread, without locks.

#include "engine/loop.h"
#include "engine/scheduler.h"

namespace kvasir::engine {

class StepRunner {
 public:
  // `options` outlives the runner. `positions`: the longest sequence.
  StepRunner(Executor& executor, kv::KvManager& kv, Scheduler& scheduler,
             const LoopOptions& options, int64_t positions)
      : executor_(executor),
        kv_(kv),
        scheduler_(scheduler),
        options_(options),
        positions_(positions) {}

  // False where `token` has stopped the step: nothing has changed then. Any other failure of the
  // executor ends the requests of the plan.
  bool run(const Scheduler::Plan& plan, const CancelToken& token);

  // Ends every sample of a request that has not ended and gives back its KV.
  void end(LiveRequest& request, const Ending& ending);

 private:
  Result<StepResult> execute(const Scheduler::Plan& plan, const CancelToken& token);
  // One work of the step: its KV, its progress, and which tokens it lets choose.
  void take(const Scheduler::Plan& plan, size_t index, const SpanResult& result);
  void add_draw(LiveRequest& request, Sample& sample, size_t span);
  // Chooses all tokens of the step at once and hands them out.
  void draw();
  void take_token(LiveRequest& request, Sample& sample, SampleResult chosen);
  void finish(LiveRequest& request, Sample& sample, const Ending& ending);
  std::optional<FinishReason> ending(const LiveRequest& request, const Sample& sample,
                                     bool is_end_token) const;

  Executor& executor_;
  kv::KvManager& kv_;
  Scheduler& scheduler_;
  const LoopOptions& options_;
  int64_t positions_;
  std::vector<Draw> draws_;  // of this step
  struct Drawer {
    LiveRequest* request;
    Sample* sample;
  };
  std::vector<Drawer> drawers_;  // whose draws_ are
};

// The exception being handled, as a value.
Error current_error();

}  // namespace kvasir::engine

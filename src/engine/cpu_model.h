#pragma once
// A model on the CPU with KV for one text, outside the engine loop: for commands that look into
// attention or compare what methods do to a text.

#include <functional>
#include <memory>

#include "base/thread_pool.h"
#include "engine/cpu_executor.h"
#include "engine/load_model.h"
#include "engine/text_pass.h"

namespace kvasir::engine {

class CpuModel {
 public:
  // For texts of up to `tokens` tokens (at least one), at most `chunk` of them in a step; 0: what
  // options.prefill asks for. Throws Error as Engine::load does, and kResourceExhausted where the
  // model reads no texts of that length.
  CpuModel(const EngineOptions& options, int64_t tokens, int64_t chunk = 0);

  const ResolvedModel& resolved() const { return model_; }
  prefill::ModelShape shape() const { return planner_shape(options_, model_.config); }
  int64_t chunk() const { return chunk_; }  // tokens of a step
  CpuExecutor& executor() { return executor_; }
  // A pass with the planner of `prefill`, whose name and options have been checked. There is memory
  // for one at a time.
  std::unique_ptr<TextPass> pass(const MethodChoice& prefill);

 private:
  const EngineOptions options_;
  const ResolvedModel model_;
  const int64_t chunk_;
  ThreadPool pool_;
  const models::CpuWeights weights_;
  kv::KvManager kv_;
  CpuExecutor executor_;
};

}  // namespace kvasir::engine

#pragma once
// A text through an executor, chunk by chunk, outside the engine loop.

#include <memory>
#include <span>

#include "engine/executor.h"
#include "kv/kv_manager.h"
#include "prefill/planner.h"

namespace kvasir::engine {

// One text after the other, each as a sequence of its own, whose KV is dropped when it ends.
class TextPass {
 public:
  // `planner`: null for dense.
  TextPass(Executor& executor, kv::KvManager& kv, kv::Domain domain,
           std::shared_ptr<const prefill::Planner> planner)
      : executor_(executor), kv_(kv), domain_(domain), planner_(std::move(planner)) {}
  ~TextPass() { end(); }
  TextPass(const TextPass&) = delete;
  TextPass& operator=(const TextPass&) = delete;

  // `text` outlives its chunks.
  void begin(std::span<const TokenId> text);
  // Logits of the next `count` tokens, all of them or as `logits` says: [rows, vocab], or nothing
  // where the executor computes none.
  std::span<const float> run(int64_t count, bool deterministic,
                             StepSpan::Logits logits = StepSpan::Logits::kAll);

 private:
  void end();

  Executor& executor_;
  kv::KvManager& kv_;
  kv::Domain domain_;
  std::shared_ptr<const prefill::Planner> planner_;
  kv::SequenceId sequence_ = 0;
  std::span<const TokenId> text_;
  bool open_ = false;
  Step step_;
};

}  // namespace kvasir::engine

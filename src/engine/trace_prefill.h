#pragma once
// What a prefill method makes the heads of a model attend to in a given text, and how much of the
// attention that keeps: `kvasir plan`.

#include <cstdint>
#include <functional>
#include <span>

#include "kernels/paged_attention/plan_size.h"
#include "kvasir/engine.h"

namespace kvasir::engine {

struct TraceOptions {
  MethodChoice prefill;
  int64_t sampled_queries = 64;  // of the text, evenly spread; fewer where it is shorter
  // Head rows.head of `layer` attends for some rows of the text to what rows.plan says; the plan
  // lives during the call. Each row comes once for every layer and head.
  std::function<void(int layer, const kernels::PlannedRows& rows)> on_rows;
  // Of a sampled query: the share of its softmax's weight over all keys that lies on those which
  // the plan lets through.
  std::function<void(int layer, int head, double recall)> on_recall;
  std::function<void(int64_t done, int64_t total)> on_progress;  // tokens; may be null
  std::function<bool()> cancelled;                               // may be null
};

// Reads `tokens` (at least one) as a prompt, in chunks as the engine does, on the CPU. In the last
// layer every row has a query here, which in a request only the prompt's last one has. Callbacks
// come from the calling thread. Throws Error as Engine::load does; kUnsupported for methods that
// cannot be run in chunks; kCancelled.
void trace_prefill(const EngineOptions& engine, std::span<const TokenId> tokens,
                   const TraceOptions& options);

}  // namespace kvasir::engine

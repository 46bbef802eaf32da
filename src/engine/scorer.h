#pragma once
// Next-token scores of a text: drives an executor over windows of it, outside the engine loop.

#include <span>

#include "engine/executor.h"
#include "kv/kv_manager.h"
#include "kvasir/engine.h"

namespace kvasir::engine {

// KL(p || q) in nats of two rows of logits.
double divergence(std::span<const float> p, std::span<const float> q);

// Rows of a step: enough for the matrix units, few enough for the logits. Methods that plan from
// queries get chunks of up to `chunk` tokens, as in a request, where 512 MiB hold their logits.
int64_t score_rows(const Engine::ScoreOptions& options, const prefill::ModelShape& model,
                   int64_t vocab_size, int64_t chunk);

// `kv` must have room for two windows where options.against is set, else for one. `begin`: the
// token that every window starts with where the text does. Throws Error (kCancelled included).
Score score_tokens(Executor& executor, kv::KvManager& kv, std::span<const TokenId> tokens,
                   std::optional<TokenId> begin, int64_t window_tokens, int64_t chunk_tokens,
                   bool deterministic, const prefill::ModelShape& model,
                   const Engine::ScoreOptions& options);

}  // namespace kvasir::engine

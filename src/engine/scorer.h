#pragma once
// Next-token scores of a text: drives an executor over windows of it, outside the engine loop.

#include <span>

#include "engine/executor.h"
#include "kv/kv_manager.h"
#include "kvasir/engine.h"

namespace kvasir::engine {

// `kv` must have room for two windows where options.against is set, else for one. `begin`: the
// token that every window starts with where the text does. Throws Error (kCancelled included).
Score score_tokens(Executor& executor, kv::KvManager& kv, std::span<const TokenId> tokens,
                   std::optional<TokenId> begin, int64_t window_tokens, int64_t chunk_tokens,
                   bool deterministic, const Engine::ScoreOptions& options);

}  // namespace kvasir::engine

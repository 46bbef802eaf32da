#include "engine/request_check.h"

#include <fmt/format.h>

#include "engine/sampler.h"
#include "engine/stages.h"
#include "text/unicode.h"

namespace kvasir::engine {
namespace {

constexpr int kMostLogprobs = 1000;

Result<void> check_tokens(std::span<const TokenId> tokens, int64_t vocab_size, const char* what) {
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocab_size)
      return Error(
          ErrorCode::kInvalidArgument,
          fmt::format("token {}: expected an id from 0 to {}, found {}; is this text tokenized for "
                      "another model?",
                      i, vocab_size - 1, tokens[i]),
          what);
  return {};
}

Result<void> check_prompt(const Request& request, const RequestLimits& limits) {
  const auto size = std::ssize(request.prompt);
  if (size == 0)
    return Error(ErrorCode::kInvalidArgument,
                 "expected at least one token, found none; start with the model's begin token",
                 "prompt");
  if (size > limits.max_positions)
    return Error(ErrorCode::kResourceExhausted,
                 fmt::format("expected at most the model's {} positions, found {} tokens; shorten "
                             "the prompt",
                             limits.max_positions, size),
                 "prompt");
  if (size > limits.pool_positions)
    return Error(
        ErrorCode::kResourceExhausted,
        fmt::format("expected at most the KV pool's {} positions, found {} tokens; shorten "
                    "the prompt or plan for a longer context",
                    limits.pool_positions, size),
        "prompt");
  return check_tokens(request.prompt, limits.vocab_size, "prompt");
}

Result<void> check_counts(const Request& request, const RequestLimits& limits) {
  if (request.max_tokens < 0)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected at least 0, found {}", request.max_tokens), "max_tokens");
  if (request.samples < 1)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected at least 1, found {}", request.samples), "samples");
  if (request.samples > limits.max_sequences)
    return Error(
        ErrorCode::kResourceExhausted,
        fmt::format("expected at most {}, the sequences that run at once, found {}; ask for "
                    "fewer samples or plan for more sequences",
                    limits.max_sequences, request.samples),
        "samples");
  if (request.top_logprobs && (*request.top_logprobs < 0 || *request.top_logprobs > kMostLogprobs))
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected 0 to {}, found {}", kMostLogprobs, *request.top_logprobs),
                 "top_logprobs");
  return {};
}

Result<void> check_stops(const Request& request, const RequestLimits& limits) {
  for (const std::string& stop : request.stop) {
    if (stop.empty())
      return Error(ErrorCode::kInvalidArgument,
                   "expected texts of at least one character, found an empty one; leave it out",
                   "stop");
    if (!text::is_valid_utf8(stop))
      return Error(ErrorCode::kInvalidArgument, "expected UTF-8, found other bytes", "stop");
  }
  return check_tokens(request.stop_tokens, limits.vocab_size, "stop_tokens");
}

}  // namespace

Result<void> check_request(const Request& request, const RequestLimits& limits) {
  if (auto checked = check_prompt(request, limits); !checked) return checked;
  if (auto checked = check_counts(request, limits); !checked) return checked;
  if (auto checked = check_stops(request, limits); !checked) return checked;
  if (auto checked = check_sampling(request.sampling); !checked) return checked;
  // Any prompt may be cut and share its steps and its prefix with others.
  return check_stages(request.stages, {.chunked_prefill = true,
                                       .prefix_reuse = true,
                                       .batching = true,
                                       .deterministic = limits.deterministic,
                                       .gpu = limits.gpu});
}

}  // namespace kvasir::engine

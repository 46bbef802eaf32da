#pragma once
// What is refused at submission, before a request takes a place in the queue.

#include <cstdint>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::engine {

struct RequestLimits {
  int64_t vocab_size = 0;
  int64_t max_positions = 0;   // of one sequence, by the model
  int64_t pool_positions = 0;  // of all KV
  int64_t max_sequences = 0;
  bool deterministic = false;
  bool gpu = false;  // attention runs on one
};

// Errors, in one sentence that says what was expected, what was found and what to do:
// kInvalidArgument, kResourceExhausted for what can never fit, and those of check_stages.
Result<void> check_request(const Request& request, const RequestLimits& limits);

}  // namespace kvasir::engine

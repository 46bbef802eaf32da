#pragma once
// How large the steps are that an executor's scratch memory is planned for.

#include <cstdint>

namespace kvasir::models {

struct ScratchOptions {
  int64_t max_rows = 1024;      // tokens of a step
  int64_t max_logit_rows = 64;  // rows whose logits are asked for
  int64_t max_spans = 1024;
  int64_t max_length = 0;  // longest sequence
};

}  // namespace kvasir::models

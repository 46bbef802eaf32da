#pragma once
// What radix selection (radix_select.cuh) takes of a row of scores.

#include <cstdint>

namespace kvasir::kernels::radix {

// Every key above `key`, and the first `equal` of those equal to it.
struct Threshold {
  uint32_t key;
  uint32_t equal;
};

}  // namespace kvasir::kernels::radix

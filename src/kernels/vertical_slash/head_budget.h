#pragma once
// What a head may keep in MInference (arXiv 2407.02490), in the terms of its head configuration,
// and the rules that planners on the CPU and on a GPU share.

#include <cstdint>

namespace kvasir::kernels {

inline constexpr int64_t kForcedColumns = 30;   // the first keys of the prompt
inline constexpr int64_t kForcedOffsets = 100;  // the nearest keys of each query
inline constexpr int64_t kFewestColumns = 30, kFewestOffsets = 50;

enum class HeadKind : uint8_t { kVerticalSlash, kAShape, kBlockSparse };

struct HeadBudget {
  HeadKind kind = HeadKind::kVerticalSlash;
  int32_t first = 0;   // columns; first positions (A-shape)
  int32_t second = 0;  // offsets; last positions (A-shape)
};

// Of `wanted` entries, the forced ones included: at least `fewest`, at most all of `length`.
constexpr int64_t clamp_budget(int64_t wanted, int64_t fewest, int64_t length) {
  return wanted < fewest ? (fewest < length ? fewest : length)
                         : (wanted < length ? wanted : length);
}

}  // namespace kvasir::kernels

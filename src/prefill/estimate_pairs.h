#pragma once
// How many query-key pairs the estimates of dynamic methods score for one query head, on the CPU as
// on a GPU.

#include <algorithm>
#include <cstdint>

#include "kernels/vertical_slash/vertical_slash.h"
#include "prefill/layer_queries.h"

namespace kvasir::prefill {

// The last `queries` meet each key twice.
inline uint64_t last_query_pairs(const Chunk& chunk, int64_t queries = kernels::kEstimateQueries) {
  return static_cast<uint64_t>(2 * chunk.length() * std::min(chunk.rows, queries));
}

// The mean query of every row tile and the mean keys of the blocks that it sees.
inline uint64_t mean_pairs(const Chunk& chunk, int64_t block_keys) {
  int64_t pairs = 0;
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile)
    pairs += (chunk.tile_end(tile) - 1) / block_keys + 1;
  return static_cast<uint64_t>(pairs);
}

// Groups of `stride` queries and the groups of keys that they see: `stride` products each.
inline uint64_t antidiagonal_pairs(const Chunk& chunk, int64_t stride) {
  const int64_t groups = (chunk.rows + stride - 1) / stride;
  const int64_t seen_by_first = chunk.query_offset / stride + 1;
  return static_cast<uint64_t>((groups * seen_by_first + groups * (groups - 1) / 2) * stride);
}

}  // namespace kvasir::prefill

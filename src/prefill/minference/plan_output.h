#pragma once
// Where the planning of a chunk writes its programs.

#include <cstdint>
#include <vector>

#include "kernels/paged_attention/attention_plan.h"

namespace kvasir::prefill::minference {

// Consecutive queries of one prompt.
struct Chunk {
  int64_t query_offset = 0;  // position of the first query
  int64_t rows = 0;          // at least 1
  int32_t row_tile = 64;     // queries of a row tile: 64 or 128

  int64_t length() const { return query_offset + rows; }  // keys in all
  int64_t tiles() const { return (rows + row_tile - 1) / row_tile; }
  int64_t tile_position(int64_t tile) const { return query_offset + tile * row_tile; }
  int64_t tile_end(int64_t tile) const {
    return tile + 1 < tiles() ? tile_position(tile + 1) : length();
  }
};

// Arrays of an attention plan that grow head by head; they belong to the caller.
struct PlanOutput {
  std::vector<kernels::HeadProgram>& heads;
  std::vector<kernels::PlanSegment>& segments;
  std::vector<int32_t>& columns;
  std::vector<uint32_t>& block_bits;

  // Ends the program of the next head: the segments from `first` on.
  void end_head(size_t first) {
    heads.push_back({.first = static_cast<int32_t>(first),
                     .count = static_cast<int32_t>(segments.size() - first)});
  }
};

}  // namespace kvasir::prefill::minference

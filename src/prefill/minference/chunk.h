#pragma once
// The queries that a plan is made for.

#include <cstdint>

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

}  // namespace kvasir::prefill::minference

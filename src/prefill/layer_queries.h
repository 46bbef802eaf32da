#pragma once
// What dynamic methods plan from: some consecutive queries of one prompt in one layer, and the keys
// so far.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/page.h"

namespace kvasir::prefill {

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

// The chunk's keys are in the pages already, rotated like the queries.
struct LayerQueries {
  int layer = 0;
  Chunk chunk;
  const void* q = nullptr;   // [rows, q_heads, head_dim] in pages.dtype, of the chunk's first row
  int64_t q_row_stride = 0;  // elements
  int q_heads = 0;           // a multiple of pages.kv_heads
  float scale = 0;           // usually 1 / sqrt(head_dim)
  kernels::PagePool pages;   // f32 or bf16
  const uint32_t* page_table = nullptr;
};

// What a program holds, counted in whole row tiles: the parts of a tile that causality masks are
// included, as a kernel computes them.
struct ProgramSize {
  int64_t pairs = 0;        // query-key pairs
  int64_t dense_pairs = 0;  // of dense attention in the same tiles
  double density() const { return static_cast<double>(pairs) / static_cast<double>(dense_pairs); }
};

struct Report {
  uint64_t scored_pairs = 0;  // query-key pairs that the estimates scored
  int dense_heads = 0;        // heads made dense because their plan would have saved too little
  double densest_head = 0;    // the largest share of pairs among the heads that were not
};

// Memory that is used again and again; belongs to one call at a time.
class Workspace {
 public:
  // 64-byte aligned, contents unspecified, there until clear().
  std::byte* bytes(size_t size);
  template <class T>
  std::span<T> array(int64_t count) {
    const auto size = static_cast<size_t>(count);
    return {reinterpret_cast<T*>(bytes(size * sizeof(T))), size};
  }
  // Takes back what was handed out; the memory stays.
  void clear();

 private:
  struct Block {
    std::unique_ptr<std::byte[]> memory;
    size_t size = 0;
    size_t used = 0;
  };
  std::vector<Block> blocks_;  // the last one serves
};

}  // namespace kvasir::prefill

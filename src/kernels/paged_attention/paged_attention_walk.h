#pragma once
// Which keys a query block meets, block by block: what the program of its heads lets through. For
// paged_attention.cpp alone.

#include <cstdint>

#include "kernels/paged_attention/attention_plan.h"
#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {

// The queries of a query block: positions [first, last], of one row tile where the program depends
// on it.
struct QueryRange {
  int64_t first = 0;
  int64_t last = 0;
  int64_t tile = 0;           // number of the row tile
  int64_t tile_position = 0;  // of its first query
};

// What has nothing of the program in it is left out; what is in it partly has offset bounds, which
// the kernels apply row by row, in granules of 32 keys: a run of 64 keys that starts anywhere has
// 96 keys scored. Segments follow each other as in the program, each in blocks of its own.
class KeyWalk {
 public:
  // Blocks of a kAbsolute segment start at multiples of `alignment` (a multiple of 64): with that
  // of all its blocks, a row's sums do not depend on the rows beside it. `window`: 0 = unlimited.
  // The plan outlives the walk.
  KeyWalk(const AttentionPlan& plan, const HeadProgram& program, const QueryRange& queries,
          int64_t window, int block_keys, int alignment);

  // Sets all but the pages of `block`; false behind the last. The positions of a block stay until
  // the call after the next one.
  bool next(KeyBlock& block);

 private:
  void enter();
  void next_run(KeyBlock& block);
  bool is_in_run(int32_t column);
  bool next_columns(KeyBlock& block);
  bool next_blocks(KeyBlock& block);

  const AttentionPlan& plan_;
  const QueryRange queries_;
  const int64_t window_;
  const int block_keys_;
  const int alignment_;
  const int32_t program_first_;
  int32_t run_ = 0;  // of a kColumns segment: the relative run that its next column may lie in
  int32_t segment_;
  const int32_t end_;
  // Of the segment: what passes its bounds and is to come, in keys, columns or blocks of 64 keys.
  int64_t first_ = 0, last_ = 0;
  int64_t last_key_ = 0;  // no key from here on passes
  int64_t offset_end_ = 0;
  int32_t positions_[2][kMostBlockKeys];  // of the blocks of keys given out last
  int turn_ = 0;
};

}  // namespace kvasir::kernels

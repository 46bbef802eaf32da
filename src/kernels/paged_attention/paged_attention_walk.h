#pragma once
// Which keys a query block meets, block by block: what the program of its heads lets through. For
// paged_attention.cpp alone.

#include <cstdint>

#include "kernels/paged_attention/attention_plan.h"
#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {

// The queries of a query block: positions [first, last], of one row tile or of several whole ones.
struct QueryRange {
  int64_t first = 0;
  int64_t last = 0;
  int64_t tile = 0;           // number of the first row tile
  int64_t tile_position = 0;  // of its first query
  int64_t tile_rows = 0;      // positions from a row tile to the next
  int tiles = 1;              // kMostBlockTiles at most; 1 where the program has kBlocks
};

// What has nothing of the program in it is left out; what is in it partly has offset bounds, which
// the kernels apply row by row, in granules of 32 keys: a run of 64 keys that starts anywhere has
// 96 keys scored. Relative runs come first, row tile by row tile, each tile's in the order of the
// program: they move along with it, so that tiles would share few keys. Then the other segments
// follow, for all row tiles together, each in blocks of its own. Columns that some row tiles take
// and others meet in their runs are hidden from these.
class KeyWalk {
 public:
  // Blocks of a kAbsolute segment start at multiples of `block_keys`, so that a row's sums do not
  // depend on the rows beside it. `window`: 0 = unlimited. The plan outlives the walk.
  KeyWalk(const AttentionPlan& plan, const HeadProgram& program, const QueryRange& queries,
          int64_t window, int block_keys);

  // Sets all but the pages of `block`; false behind the last. The positions of a block stay until
  // the call after the next one.
  bool next(KeyBlock& block);

 private:
  void enter();
  int64_t position_of(int64_t tile) const;
  bool next_of_segment(KeyBlock& block);
  void next_run(KeyBlock& block);
  uint32_t tiles_with_run(int32_t column);
  bool next_columns(KeyBlock& block);
  bool next_blocks(KeyBlock& block);

  const AttentionPlan& plan_;
  const QueryRange queries_;
  const int64_t window_;
  const int block_keys_;
  const int32_t program_first_;
  int pass_ = 0;  // the row tile whose runs are met, or their number: the other segments are
  int32_t segment_;
  const int32_t end_;
  // Of the segment: the row tiles of the query block that it applies to.
  int first_tile_ = 0, last_tile_ = 0;
  // Of a kColumns segment, for each row tile: the relative run that its next column may lie in.
  int32_t runs_[kMostBlockTiles];
  // Of the segment: what passes its bounds and is to come, in keys, columns or blocks of 64 keys.
  int64_t first_ = 0, last_ = 0;
  int64_t last_key_ = 0;  // no key from here on passes
  int64_t offset_end_ = 0;
  // Of the blocks of keys given out last.
  int32_t positions_[2][kMostBlockKeys];
  uint64_t hidden_[2][kMostBlockTiles][kMostBlockKeys / 64];
  int turn_ = 0;
};

}  // namespace kvasir::kernels

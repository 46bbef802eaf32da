#pragma once
// The bits of one kBlocks segment (kernels/paged_attention/attention_plan.h): of each row tile of a
// chunk the blocks of 64 keys that it attends to. A bit takes 1 / 512 byte a key and row tile.

#include <cstdint>

#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill {

class BlockBitmap {
 public:
  // Appends the chunk's bits, none set, to the plan's.
  BlockBitmap(const Chunk& chunk, PlanBuffer& plan);

  // The blocks that hold any of the keys [first, last), of which those that exist and that the
  // tile's last query sees are meant. Tiles may be filled at once from several threads.
  void add(int64_t tile, int64_t first, int64_t last);

  kernels::PlanSegment segment() const;
  ProgramSize size() const;

 private:
  uint32_t* row(int64_t tile) const;

  Chunk chunk_;
  PlanBuffer* plan_;
  int64_t words_;
  size_t first_word_;
};

// Ends a head's program: the bitmap, or dense where it holds a larger share of all pairs than
// `densest`. Adds to the report.
void end_bitmap_head(const BlockBitmap& bitmap, double densest, Report& report, PlanBuffer& plan);

}  // namespace kvasir::prefill

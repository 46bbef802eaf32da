#pragma once
// From the chosen columns and diagonals of a vertical-slash head to the segments of its program.
//
// A diagonal at offset o crosses a row tile of M queries that starts at position t in the keys
// [t - o, t - o + M): relative to t these are the same for every tile. The canonical index is
// therefore built once per head and chunk: the union of [-o, M - o) over the chosen offsets as
// disjoint kRelative runs, and all chosen columns as one kColumns segment, of which a tile takes
// what no run holds (the rule of attention_plan.h). It covers every (r, c) with c <= r where c is a
// chosen column or r - c a chosen offset.

#include <cstdint>
#include <span>
#include <vector>

#include "prefill/layer_queries.h"
#include "prefill/minference/select.h"
#include "prefill/planner.h"

namespace kvasir::prefill::minference {

struct RelativeRun {
  int32_t first = 0;  // key position minus that of the row tile's first query
  int32_t count = 0;
  bool operator==(const RelativeRun&) const = default;
};

// The union over `offsets` (ascending), ascending and neither touching nor overlapping.
std::vector<RelativeRun> relative_runs(std::span<const int32_t> offsets, int32_t row_tile);

// Appends the canonical index's segments. Memory: one segment per run, at most as many as offsets,
// and one integer per column, whatever the length of the chunk.
ProgramSize append_relative_index(const Selection& selection, const Chunk& chunk,
                                  PlanBuffer& output);

// Appends the index of the released code, for parity: for each tile of 64 queries a merge of the
// squares that its diagonals touch, which grow by whole squares, and the columns between them.
// chunk.row_tile is 64. Offsets may repeat and lack 0: a tile without any has no keys. Memory: up
// to all columns and offsets for every tile.
ProgramSize append_reference_index(const Selection& selection, const Chunk& chunk,
                                   PlanBuffer& output);

}  // namespace kvasir::prefill::minference

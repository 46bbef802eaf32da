#pragma once
// What a plan amounts to: the query-key pairs that it lets through, exactly, and those that whole
// tiles compute for them. For reports and drawings; kernels walk a plan by themselves
// (paged_attention_walk.h).

#include <cstdint>
#include <vector>

#include "kernels/paged_attention/attention_plan.h"

namespace kvasir::kernels {

// The queries of one head that a plan is for: positions [query_offset, query_offset + rows).
struct PlannedRows {
  const AttentionPlan* plan = nullptr;  // null: dense
  int head = 0;
  int64_t rows = 0;
  int64_t query_offset = 0;
  int64_t window = 0;  // of the layer; 0 = unlimited

  int64_t row_tile() const { return plan ? plan->row_tile : 64; }
  int64_t tiles() const { return (rows + row_tile() - 1) / row_tile(); }
  int64_t tile_begin(int64_t tile) const { return query_offset + tile * row_tile(); }
  int64_t tile_end(int64_t tile) const {
    return tile + 1 < tiles() ? tile_begin(tile + 1) : query_offset + rows;
  }
};

// Keys [first, last), of which a query at position r meets those at positions c with
// offset_begin <= r - c < offset_end.
struct KeyRun {
  int64_t first = 0;
  int64_t last = 0;
  int64_t offset_begin = 0;
  int64_t offset_end = 0;
};

// What the queries of row tile `tile` meet, in the order in which it is added; keys that none of
// them meets are cut off. Neighbouring columns make one run. `runs` is written anew.
void key_runs(const PlannedRows& rows, int64_t tile, std::vector<KeyRun>& runs);

// Pairs of a run with the queries at positions [first_query, last_query).
int64_t pairs_of(const KeyRun& run, int64_t first_query, int64_t last_query);

struct PlanSize {
  int64_t required = 0;  // pairs that the plan lets through
  // Pairs of the tiles that hold them: all rows of a row tile times whole groups of 64 keys, which
  // start at multiples of 64 in runs and blocks and are packed from columns; segments do not share
  // a group.
  int64_t computed = 0;
  int64_t causal = 0;  // pairs of dense causal attention, the window applied

  PlanSize& operator+=(const PlanSize& other);
  double density() const;  // required / causal; 1 where there is nothing to attend to
};

PlanSize plan_size(const PlannedRows& rows);

}  // namespace kvasir::kernels

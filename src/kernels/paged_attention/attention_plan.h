#pragma once
// What the queries of a span attend to, head by head: the one format that every sparse prefill
// method writes and one family of kernels executes.
//
// A head's program is a list of segments; a query at position r attends to a key at position c
// where a segment that applies to r's row tile holds c and lets r - c pass. The segments of a
// program never hold the same (r, c) twice, so that a kernel adds them up one after the other.
// Dense causal attention is one segment. Row tiles are counted from the span's first query.
//
// Columns give way to relative runs: of a kColumns segment a row tile takes only the keys that no
// kRelative segment of the same program holds for it. The run moves along with the tiles and meets
// other columns in each; the rule keeps one list of columns for all of them. So that a walk over
// both lists finds these keys, the kRelative segments of a program with kColumns stand before them,
// apply to every tile, have no offset bounds, ascend and do not overlap.

#include <cstdint>
#include <limits>
#include <span>

namespace kvasir::kernels {

inline constexpr int32_t kNoBound = std::numeric_limits<int32_t>::max();

enum class SegmentKind : uint8_t {
  kAbsolute,  // keys [first, first + count)
  kRelative,  // keys [t + first, t + first + count), t = position of the row tile's first query
  // The single keys columns[first .. first + count), ascending, but those in relative runs; what
  // a tile takes lies before t.
  kColumns,
  // Blocks of 64 keys: of row tile i those whose bit is set in
  // block_bits[first + i * count .. + count), bit b of word w = keys from 64 * (32 w + b) on.
  kBlocks,
};

struct PlanSegment {
  SegmentKind kind = SegmentKind::kAbsolute;
  uint8_t query_variant = 0;  // which rotation of the queries scores here; 0 = their own
  int32_t first = 0;          // may be negative in kRelative; keys below 0 do not exist
  int32_t count = 0;          // kNoBound: to the last key
  int32_t offset_begin = 0;   // lets offset_begin <= r - c < offset_end pass; at least 0: causal
  int32_t offset_end = kNoBound;
  int32_t tile_begin = 0;  // applies to row tiles [tile_begin, tile_end)
  int32_t tile_end = kNoBound;
};

// Segments [first, first + count) of the plan.
struct HeadProgram {
  int32_t first = 0;
  int32_t count = 0;
};

// Arrays belong to whoever made the plan.
struct AttentionPlan {
  int32_t row_tile = 64;               // queries of a row tile: 64 or 128
  std::span<const HeadProgram> heads;  // [q_heads]
  std::span<const PlanSegment> segments;
  std::span<const int32_t> columns;
  std::span<const uint32_t> block_bits;
};

}  // namespace kvasir::kernels

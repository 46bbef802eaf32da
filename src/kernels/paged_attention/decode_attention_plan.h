#pragma once
// How decode attention is cut over blocks, for the files of decode attention alone.
//
// A unit is one page of one span for one head (a KV head with at most 16 of its query heads). All
// units in the order span, head, page are dealt evenly to the blocks, so that each reads as many
// bytes, whatever the lengths. The pages of one span and head are a segment. A block that has a
// segment alone writes its result; otherwise each of the segment's blocks leaves a partial result
// in the workspace, and whoever comes last adds them up in the order of the keys.

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

#include "kernels/paged_attention/paged_attention_cuda.h"

namespace kvasir::kernels {

inline constexpr int kDecodeQueries = 16;      // of one KV head in a unit at most
inline constexpr int kDecodeBlocks = 2;        // on a multiprocessor at once
inline constexpr int kLeastUnitsOfABlock = 2;  // fewer cost more in partial results

// A span that has a row.
struct alignas(16) DecodeSpan {
  int32_t first_row = 0;
  int32_t first_page = 0;  // place in page_tables of the first page with visible keys
  int32_t pages = 0;       // with visible keys; 1 where there are none
  int16_t first_key = 0;   // visible, in the first page
  int16_t last_key = -1;   // visible, in the last page: the query's own; -1 = none
};

// Blocks that share a segment.
struct DecodeShare {
  int32_t first = 0;
  int32_t count = 1;
};

// Where a block begins, with all that it needs for it in one read.
struct alignas(16) DecodeStart {
  DecodeSpan span;  // a copy of spans[index]
  int32_t index = 0;
  int32_t head = 0;
  int32_t page = 0;   // counted from the span's first with visible keys
  int32_t units = 0;  // of this block; 0 = nothing to do
  // Of its first and its last segment. Those between are its own.
  DecodeShare first_share, last_share;
};

// The parts of a workspace, in device memory.
struct DecodePlan {
  DecodeStart* starts = nullptr;    // [blocks]
  DecodeSpan* spans = nullptr;      // [span_count + 2]: those with a row, then two without pages
  int32_t* pages_before = nullptr;  // [span_count]: those of spans before
  // [blocks], [blocks, 2]: how many have left their part of the segment that begins in that block,
  // and of the group of blocks whose first partial result is that one; 0 between runs
  uint32_t* tickets = nullptr;
  uint32_t* group_tickets = nullptr;
  // A block has at most two partial results: of a segment that began in an earlier block (0), and
  // of one that begins in it (1).
  float2* totals =
      nullptr;            // [blocks, 2, kDecodeQueries]: maximum in units of log2, sum of weights
  float* sums = nullptr;  // [blocks, 2, kDecodeQueries, head_dim]: weighted sums of values
};

struct DecodeArgs {
  CudaAttentionArgs attention;
  DecodePlan plan;
  int group = 0;         // query heads of a KV head
  int tiles = 0;         // units that a group takes: ceil(group / kDecodeQueries)
  float log2_scale = 0;  // scores in units of log2
};

void launch_build_decode_attention(const cuda::Context& context, const DecodeArgs& args,
                                   int blocks);
void launch_decode_attention(const cuda::Context& context, const DecodeArgs& args, int blocks);

}  // namespace kvasir::kernels

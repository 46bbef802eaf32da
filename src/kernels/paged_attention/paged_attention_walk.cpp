#include "kernels/paged_attention/paged_attention_walk.h"

#include <algorithm>

namespace kvasir::kernels {
namespace {

constexpr int64_t kPageKeys = 64;

}  // namespace

KeyWalk::KeyWalk(const AttentionPlan& plan, const HeadProgram& program, const QueryRange& queries,
                 int64_t window, int block_keys)
    : plan_(plan),
      queries_(queries),
      window_(window),
      block_keys_(block_keys),
      program_first_(program.first),
      segment_(program.first),
      end_(program.first + program.count) {
  enter();
}

// Of the first query of a row tile of the query block.
int64_t KeyWalk::position_of(int64_t tile) const {
  return queries_.tile_position + tile * queries_.tile_rows;
}

// Finds what is to come of segment_, nothing where it is not for these queries.
void KeyWalk::enter() {
  first_ = last_ = 0;
  if (segment_ == end_) return;
  const PlanSegment& segment = plan_.segments[static_cast<size_t>(segment_)];
  const bool is_relative = segment.kind == SegmentKind::kRelative;
  const bool is_of_one_tile = pass_ < queries_.tiles;
  if (is_relative != is_of_one_tile) return;
  const int begin_tile = is_of_one_tile ? pass_ : 0;
  const int end_tile = is_of_one_tile ? pass_ + 1 : queries_.tiles;
  first_tile_ = static_cast<int>(std::max<int64_t>(begin_tile, segment.tile_begin - queries_.tile));
  last_tile_ = static_cast<int>(std::min<int64_t>(end_tile, segment.tile_end - queries_.tile));
  if (first_tile_ >= last_tile_) return;
  offset_end_ = segment.offset_end;
  if (window_ > 0) offset_end_ = std::min(offset_end_, window_);
  const int64_t first_query = std::max(queries_.first, position_of(first_tile_));
  const int64_t last_query = std::min(queries_.last, position_of(last_tile_) - 1);
  const int64_t lowest = std::max<int64_t>(0, first_query - offset_end_ + 1);
  last_key_ = last_query - segment.offset_begin + 1;
  switch (segment.kind) {
    case SegmentKind::kAbsolute:
    case SegmentKind::kRelative: {
      const int64_t begin = segment.first + (is_relative ? position_of(first_tile_) : 0);
      first_ = std::max(lowest, begin);
      last_ = segment.count == kNoBound ? last_key_
                                        : std::min<int64_t>(last_key_, begin + segment.count);
      return;
    }
    case SegmentKind::kColumns: {
      const int32_t* all = plan_.columns.data();
      const int32_t *begin = all + segment.first, *end = begin + segment.count;
      first_ = std::lower_bound(begin, end, lowest) - all;
      last_ = std::lower_bound(begin, end, last_key_) - all;
      std::fill(std::begin(runs_), std::end(runs_), program_first_);
      return;
    }
    case SegmentKind::kBlocks:
      first_ = lowest / kPageKeys;
      last_ = std::min<int64_t>((last_key_ + kPageKeys - 1) / kPageKeys, 32ll * segment.count);
      return;
  }
}

bool KeyWalk::next(KeyBlock& block) {
  for (;; enter()) {
    for (; segment_ < end_; ++segment_, enter())
      if (first_ < last_ && next_of_segment(block)) return true;
    if (pass_ == queries_.tiles) return false;
    ++pass_;
    segment_ = program_first_;
  }
}

bool KeyWalk::next_of_segment(KeyBlock& block) {
  const PlanSegment& segment = plan_.segments[static_cast<size_t>(segment_)];
  block = {.offset_begin = segment.offset_begin, .offset_end = offset_end_};
  if (segment.kind == SegmentKind::kBlocks) return next_blocks(block);
  if (segment.kind == SegmentKind::kColumns) return next_columns(block);
  next_run(block);
  return true;
}

void KeyWalk::next_run(KeyBlock& block) {
  const PlanSegment& segment = plan_.segments[static_cast<size_t>(segment_)];
  const int64_t alignment = segment.kind == SegmentKind::kAbsolute ? block_keys_ : kPageKeys;
  block.first = first_ / alignment * alignment;
  block.begin = static_cast<int>(first_ - block.first);
  block.end = static_cast<int>(std::min<int64_t>(block_keys_, last_ - block.first));
  first_ = block.first + block_keys_;
  for (int tile = first_tile_; tile < last_tile_; ++tile)
    block.tiles[tile] = {block.begin, block.end};
}

// Bits of the row tiles in which a relative run of the program holds a column; asked of ascending
// columns.
uint32_t KeyWalk::tiles_with_run(int32_t column) {
  uint32_t tiles = 0;
  for (int tile = first_tile_; tile < last_tile_; ++tile) {
    const int64_t key = column - position_of(tile);
    for (; runs_[tile] < segment_; ++runs_[tile]) {
      const PlanSegment& run = plan_.segments[static_cast<size_t>(runs_[tile])];
      if (run.kind != SegmentKind::kRelative || int64_t{run.first} + run.count <= key) continue;
      if (key >= run.first) tiles |= 1u << tile;
      break;
    }
  }
  return tiles;
}

bool KeyWalk::next_columns(KeyBlock& block) {
  int32_t* positions = positions_[turn_];
  auto* hidden = hidden_[turn_];
  std::fill(&hidden[first_tile_][0], &hidden[last_tile_ - 1][0] + std::size(hidden[0]), 0);
  const uint32_t all = (1u << last_tile_) - (1u << first_tile_);
  int found = 0;
  uint32_t any = 0;
  for (; first_ < last_ && found < block_keys_; ++first_) {
    const int32_t column = plan_.columns[static_cast<size_t>(first_)];
    const uint32_t tiles = tiles_with_run(column);
    if (tiles == all) continue;
    any |= tiles;
    for (int tile = first_tile_; tiles >> tile != 0; ++tile)
      hidden[tile][found / 64] |= uint64_t{tiles >> tile & 1} << (found % 64);
    positions[found++] = column;
  }
  if (found == 0) return false;
  turn_ ^= 1;
  block.positions = positions;
  block.end = found;
  for (int tile = first_tile_; tile < last_tile_; ++tile) block.tiles[tile] = {0, found};
  if (any != 0) block.hidden = hidden;
  return true;
}

bool KeyWalk::next_blocks(KeyBlock& block) {
  const PlanSegment& segment = plan_.segments[static_cast<size_t>(segment_)];
  const uint32_t* bits =
      plan_.block_bits.data() + segment.first + queries_.tile * int64_t{segment.count};
  int32_t* positions = positions_[turn_];
  int found = 0;
  for (; first_ < last_ && found < block_keys_ / kPageKeys; ++first_)
    if (bits[first_ / 32] >> (first_ % 32) & 1)
      positions[found++] = static_cast<int32_t>(first_ * kPageKeys);
  if (found == 0) return false;
  turn_ ^= 1;
  block.positions = positions;
  block.position_keys_log2 = 6;
  const int64_t rest = last_key_ - positions[found - 1];
  block.end = static_cast<int>((found - 1) * kPageKeys + std::min(kPageKeys, rest));
  block.tiles[0] = {0, block.end};
  return true;
}

}  // namespace kvasir::kernels

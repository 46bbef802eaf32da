#include "kernels/paged_attention/paged_attention_walk.h"

#include <algorithm>

namespace kvasir::kernels {
namespace {

constexpr int64_t kPageKeys = 64;

}  // namespace

KeyWalk::KeyWalk(const AttentionPlan& plan, const HeadProgram& program, const QueryRange& queries,
                 int64_t window, int block_keys, int alignment)
    : plan_(plan),
      queries_(queries),
      window_(window),
      block_keys_(block_keys),
      alignment_(alignment),
      program_first_(program.first),
      segment_(program.first),
      end_(program.first + program.count) {
  enter();
}

// Finds what is to come of segment_, nothing where it is not for these queries.
void KeyWalk::enter() {
  first_ = last_ = 0;
  if (segment_ == end_) return;
  const PlanSegment& segment = plan_.segments[static_cast<size_t>(segment_)];
  if (queries_.tile < segment.tile_begin || queries_.tile >= segment.tile_end) return;
  offset_end_ = segment.offset_end;
  if (window_ > 0) offset_end_ = std::min(offset_end_, window_);
  const int64_t lowest = std::max<int64_t>(0, queries_.first - offset_end_ + 1);
  last_key_ = queries_.last - segment.offset_begin + 1;
  const int64_t base = segment.kind == SegmentKind::kRelative ? queries_.tile_position : 0;
  switch (segment.kind) {
    case SegmentKind::kAbsolute:
    case SegmentKind::kRelative:
      first_ = std::max(lowest, base + segment.first);
      last_ = segment.count == kNoBound
                  ? last_key_
                  : std::min<int64_t>(last_key_, base + segment.first + segment.count);
      return;
    case SegmentKind::kColumns: {
      const int32_t* all = plan_.columns.data();
      const int32_t *begin = all + segment.first, *end = begin + segment.count;
      first_ = std::lower_bound(begin, end, lowest) - all;
      last_ = std::lower_bound(begin, end, last_key_) - all;
      run_ = program_first_;
      return;
    }
    case SegmentKind::kBlocks:
      first_ = lowest / kPageKeys;
      last_ = std::min<int64_t>((last_key_ + kPageKeys - 1) / kPageKeys, 32ll * segment.count);
      return;
  }
}

bool KeyWalk::next(KeyBlock& block) {
  for (; segment_ < end_; ++segment_, enter()) {
    if (first_ >= last_) continue;
    const PlanSegment& segment = plan_.segments[static_cast<size_t>(segment_)];
    block = {.offset_begin = segment.offset_begin, .offset_end = offset_end_};
    if (segment.kind == SegmentKind::kBlocks) {
      if (next_blocks(block)) return true;
      continue;
    }
    if (segment.kind == SegmentKind::kColumns) {
      if (next_columns(block)) return true;
      continue;
    }
    next_run(block);
    return true;
  }
  return false;
}

void KeyWalk::next_run(KeyBlock& block) {
  const bool is_absolute =
      plan_.segments[static_cast<size_t>(segment_)].kind == SegmentKind::kAbsolute;
  const int64_t alignment = is_absolute ? alignment_ : kPageKeys;
  block.first = first_ / alignment * alignment;
  block.begin = static_cast<int>(first_ - block.first);
  block.end = static_cast<int>(std::min<int64_t>(block_keys_, last_ - block.first));
  first_ = block.first + block_keys_;
}

// Whether a relative run of the program holds a column; asked of ascending ones.
bool KeyWalk::is_in_run(int32_t column) {
  const int64_t key = column - queries_.tile_position;
  for (; run_ < segment_; ++run_) {
    const PlanSegment& run = plan_.segments[static_cast<size_t>(run_)];
    if (run.kind != SegmentKind::kRelative || int64_t{run.first} + run.count <= key) continue;
    return key >= run.first;
  }
  return false;
}

bool KeyWalk::next_columns(KeyBlock& block) {
  int32_t* positions = positions_[turn_];
  int found = 0;
  for (; first_ < last_ && found < block_keys_; ++first_) {
    const int32_t column = plan_.columns[static_cast<size_t>(first_)];
    if (!is_in_run(column)) positions[found++] = column;
  }
  if (found == 0) return false;
  turn_ ^= 1;
  block.positions = positions;
  block.end = found;
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
  return true;
}

}  // namespace kvasir::kernels

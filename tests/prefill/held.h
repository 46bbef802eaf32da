#pragma once
// What a program holds, pair by pair, by the text of attention_plan.h.

#include <algorithm>
#include <vector>

#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill {

// How often each (query, key) is held: [rows][length], causality applied.
class Held {
 public:
  Held(const PlanBuffer& plan, const kernels::HeadProgram& program, const Chunk& chunk)
      : chunk_(chunk), times_(static_cast<size_t>(chunk.rows * chunk.length())) {
    for (int64_t row = 0; row < chunk.rows; ++row)
      for (int32_t i = 0; i < program.count; ++i)
        hold(plan, program, plan.segments[static_cast<size_t>(program.first + i)], row);
  }

  int times(int64_t row, int64_t key) const {
    return times_[static_cast<size_t>(row * chunk_.length() + key)];
  }
  bool is_held(int64_t row, int64_t key) const { return times(row, key) > 0; }
  int most() const { return *std::ranges::max_element(times_); }
  int64_t keys(int64_t row) const {
    int64_t sum = 0;
    for (int64_t key = 0; key < chunk_.length(); ++key) sum += times(row, key);
    return sum;
  }
  bool operator==(const Held& other) const { return times_ == other.times_; }

 private:
  void hold(const PlanBuffer& plan, const kernels::HeadProgram& program,
            const kernels::PlanSegment& segment, int64_t row) {
    const int64_t tile = row / chunk_.row_tile, position = chunk_.tile_position(tile);
    if (tile < segment.tile_begin || tile >= segment.tile_end) return;
    const auto take = [&](int64_t key) {
      const int64_t offset = chunk_.query_offset + row - key;
      if (key < 0 || offset < segment.offset_begin || offset >= segment.offset_end) return;
      ++times_[static_cast<size_t>(row * chunk_.length() + key)];
    };
    switch (segment.kind) {
      case kernels::SegmentKind::kAbsolute:
      case kernels::SegmentKind::kRelative: {
        const int64_t first =
            segment.first + (segment.kind == kernels::SegmentKind::kRelative ? position : 0);
        const int64_t last = std::min(first + segment.count, chunk_.length());
        for (int64_t key = first; key < last; ++key) take(key);
        return;
      }
      case kernels::SegmentKind::kColumns:
        for (int32_t i = 0; i < segment.count; ++i) {
          const int32_t column = plan.columns[static_cast<size_t>(segment.first + i)];
          if (!in_relative_run(plan, program, column - position)) take(column);
        }
        return;
      case kernels::SegmentKind::kBlocks:
        for (int64_t key = 0; key < std::min<int64_t>(chunk_.length(), segment.count * 2048);
             ++key) {
          const uint32_t word = plan.block_bits[static_cast<size_t>(
              segment.first + tile * segment.count + key / 2048)];
          if (word >> (key / 64 % 32) & 1) take(key);
        }
        return;
    }
  }

  static bool in_relative_run(const PlanBuffer& plan, const kernels::HeadProgram& program,
                              int64_t relative) {
    for (int32_t i = 0; i < program.count; ++i) {
      const auto& run = plan.segments[static_cast<size_t>(program.first + i)];
      if (run.kind == kernels::SegmentKind::kRelative && relative >= run.first &&
          relative < run.first + run.count)
        return true;
    }
    return false;
  }

  const Chunk chunk_;
  std::vector<int> times_;
};

}  // namespace kvasir::prefill

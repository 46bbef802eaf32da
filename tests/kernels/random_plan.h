#pragma once
// Attention plans for tests: random ones with every kind of segment, and what a plan holds, pair by
// pair, by the text of attention_plan.h.

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/paged_attention/attention_plan.h"

namespace kvasir::kernels {

// A plan with its arrays.
struct OwnPlan {
  std::vector<HeadProgram> heads;
  std::vector<PlanSegment> segments;
  std::vector<int32_t> columns;
  std::vector<uint32_t> bits;
  int32_t row_tile = 64;

  AttentionPlan view() const {
    return {.row_tile = row_tile,
            .heads = heads,
            .segments = segments,
            .columns = columns,
            .block_bits = bits};
  }
};

inline OwnPlan same_for_all(int heads, std::vector<PlanSegment> segments) {
  const HeadProgram program{.first = 0, .count = static_cast<int32_t>(segments.size())};
  OwnPlan plan;
  plan.heads.assign(static_cast<size_t>(heads), program);
  plan.segments = std::move(segments);
  return plan;
}

inline std::vector<PlanSegment> a_shape_segments(int32_t init, int32_t local) {
  return {{.count = kNoBound, .offset_end = local}, {.count = init, .offset_begin = local}};
}

class RandomPlan {
 public:
  RandomPlan(std::mt19937& random, int q_heads, int64_t rows, int64_t query_offset)
      : random_(random), length_(query_offset + rows) {
    plan_.row_tile = below(2) ? 64 : 128;
    tiles_ = (rows + plan_.row_tile - 1) / plan_.row_tile;
    query_offset_ = query_offset;
    for (int head = 0; head < q_heads; ++head) {
      if (head > 0 && below(2)) {
        plan_.heads.push_back(plan_.heads.back());
        continue;
      }
      HeadProgram program{.first = static_cast<int32_t>(plan_.segments.size()),
                          .count = static_cast<int32_t>(below(5))};
      const bool has_columns = below(2);
      if (has_columns) add_disjoint_runs();
      const auto runs = static_cast<int32_t>(plan_.segments.size()) - program.first;
      program.count += runs;
      for (int i = runs; i < program.count; ++i) plan_.segments.push_back(segment(has_columns));
      plan_.heads.push_back(program);
    }
  }
  const OwnPlan& plan() const { return plan_; }

 private:
  int64_t below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint32_t>(end));
  }

  // As the contract of kColumns wants them.
  void add_disjoint_runs() {
    int64_t first = -below(length_ + 1);
    for (int64_t i = below(12); i > 0; --i) {
      const int64_t count = 1 + below(150);
      plan_.segments.push_back({.kind = SegmentKind::kRelative,
                                .first = static_cast<int32_t>(first),
                                .count = static_cast<int32_t>(count)});
      first += count + 1 + below(100);
    }
  }

  PlanSegment segment(bool has_columns) {
    PlanSegment segment{.kind = static_cast<SegmentKind>(below(4))};
    if (segment.kind == (has_columns ? SegmentKind::kRelative : SegmentKind::kColumns))
      segment.kind = has_columns ? SegmentKind::kColumns : SegmentKind::kRelative;
    if (below(2)) segment.offset_begin = static_cast<int32_t>(below(length_));
    if (below(2)) segment.offset_end = segment.offset_begin + static_cast<int32_t>(below(length_));
    if (below(2)) segment.tile_begin = static_cast<int32_t>(below(tiles_));
    if (below(2)) segment.tile_end = segment.tile_begin + static_cast<int32_t>(below(tiles_ + 1));
    switch (segment.kind) {
      case SegmentKind::kAbsolute:
        segment.first = static_cast<int32_t>(below(length_));
        segment.count = below(3) ? static_cast<int32_t>(below(length_)) : kNoBound;
        break;
      case SegmentKind::kRelative:
        segment.first = static_cast<int32_t>(below(length_ + 64) - length_);
        segment.count = static_cast<int32_t>(below(200));
        break;
      case SegmentKind::kColumns: {
        segment.first = static_cast<int32_t>(plan_.columns.size());
        const int64_t share = 1 + below(20);
        const int64_t end = query_offset_ + segment.tile_begin * plan_.row_tile;
        for (int64_t key = below(share); key < end; key += 1 + below(share))
          plan_.columns.push_back(static_cast<int32_t>(key));
        segment.count = static_cast<int32_t>(plan_.columns.size()) - segment.first;
        break;
      }
      case SegmentKind::kBlocks: {
        segment.first = static_cast<int32_t>(plan_.bits.size());
        segment.count = static_cast<int32_t>((length_ + 2047) / 2048);
        for (int64_t i = 0; i < tiles_ * segment.count; ++i)
          plan_.bits.push_back(below(4) ? random_() & random_() : ~0u);
        break;
      }
    }
    return segment;
  }

  std::mt19937& random_;
  OwnPlan plan_;
  int64_t length_, tiles_ = 0, query_offset_ = 0;
};

// Whether a segment of head `head` lets query `row` of a span meet `key`; columns in relative runs
// not.
inline bool holds(const AttentionPlan& plan, int head, const PlanSegment& segment,
                  int64_t query_offset, int64_t row, int64_t key) {
  const int64_t tile = row / plan.row_tile, offset = query_offset + row - key;
  const int64_t relative = key - query_offset - tile * plan.row_tile;
  if (tile < segment.tile_begin || tile >= segment.tile_end) return false;
  if (offset < segment.offset_begin || offset >= segment.offset_end) return false;
  const auto in_run = [](const PlanSegment& run, int64_t place) {
    return place >= run.first && (run.count == kNoBound || place < int64_t{run.first} + run.count);
  };
  switch (segment.kind) {
    case SegmentKind::kAbsolute:
      return in_run(segment, key);
    case SegmentKind::kRelative:
      return in_run(segment, relative);
    case SegmentKind::kColumns: {
      const HeadProgram& program = plan.heads[static_cast<size_t>(head)];
      for (const PlanSegment& run : plan.segments.subspan(program.first, program.count))
        if (run.kind == SegmentKind::kRelative && in_run(run, relative)) return false;
      return std::ranges::count(plan.columns.subspan(segment.first, segment.count), key) > 0;
    }
    case SegmentKind::kBlocks: {
      const int64_t block = key / 64;
      return block < 32ll * segment.count &&
             (plan.block_bits[segment.first + tile * segment.count + block / 32] >> (block % 32) &
              1);
    }
  }
  return false;
}

}  // namespace kvasir::kernels

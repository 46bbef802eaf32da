#include "kernels/paged_attention/plan_size.h"

#include <algorithm>

namespace kvasir::kernels {
namespace {

constexpr int64_t kGroupKeys = 64;

constexpr PlanSegment kDense{.count = kNoBound};

std::span<const PlanSegment> segments_of(const PlannedRows& rows) {
  if (!rows.plan) return {&kDense, 1};
  const HeadProgram& program = rows.plan->heads[static_cast<size_t>(rows.head)];
  return rows.plan->segments.subspan(static_cast<size_t>(program.first),
                                     static_cast<size_t>(program.count));
}

// One segment of a program for one row tile.
class SegmentRuns {
 public:
  SegmentRuns(const PlannedRows& rows, int64_t tile, std::span<const PlanSegment> program,
              const PlanSegment& segment, std::vector<KeyRun>& runs)
      : plan_(rows.plan),
        tile_(tile),
        position_(rows.tile_begin(tile)),
        program_(program),
        segment_(segment),
        runs_(runs),
        offset_end_(rows.window > 0 ? std::min<int64_t>(segment.offset_end, rows.window)
                                    : segment.offset_end),
        lowest_(std::max<int64_t>(0, position_ - offset_end_ + 1)),
        end_(rows.tile_end(tile) - segment.offset_begin) {}

  // Appends the runs.
  void append() {
    if (tile_ < segment_.tile_begin || tile_ >= segment_.tile_end) return;
    if (offset_end_ <= segment_.offset_begin) return;
    switch (segment_.kind) {
      case SegmentKind::kAbsolute:
        return append_counted(segment_.first);
      case SegmentKind::kRelative:
        return append_counted(position_ + segment_.first);
      case SegmentKind::kColumns:
        return append_columns();
      case SegmentKind::kBlocks:
        return append_blocks();
    }
  }

 private:
  void append_counted(int64_t first) {
    append_run(first, segment_.count == kNoBound ? end_ : first + segment_.count);
  }

  void append_run(int64_t first, int64_t last) {
    first = std::max(first, lowest_);
    last = std::min(last, end_);
    if (first < last) runs_.push_back({first, last, segment_.offset_begin, offset_end_});
  }

  void append_columns() {
    const auto columns = plan_->columns.subspan(static_cast<size_t>(segment_.first),
                                                static_cast<size_t>(segment_.count));
    size_t run = 0;
    for (const int32_t column : columns) {
      if (column < lowest_) continue;
      if (column >= end_) return;
      const int64_t relative = column - position_;
      while (run < program_.size() && program_[run].kind == SegmentKind::kRelative &&
             int64_t{program_[run].first} + program_[run].count <= relative)
        ++run;
      const bool is_in_run = run < program_.size() &&
                             program_[run].kind == SegmentKind::kRelative &&
                             relative >= program_[run].first;
      if (is_in_run) continue;
      if (has_columns_ && runs_.back().last == column)
        ++runs_.back().last;
      else
        append_run(column, column + 1);
      has_columns_ = true;
    }
  }

  void append_blocks() {
    const auto bits =
        plan_->block_bits.subspan(static_cast<size_t>(segment_.first + tile_ * segment_.count),
                                  static_cast<size_t>(segment_.count));
    for (size_t word = 0; word < bits.size(); ++word)
      for (int bit = 0; bit < 32; ++bit) {
        if (!(bits[word] >> bit & 1)) continue;
        const int64_t first = kGroupKeys * (32 * static_cast<int64_t>(word) + bit);
        append_run(first, first + kGroupKeys);
      }
  }

  const AttentionPlan* plan_;
  const int64_t tile_;
  const int64_t position_;  // of the tile's first query
  const std::span<const PlanSegment> program_;
  const PlanSegment& segment_;
  std::vector<KeyRun>& runs_;
  const int64_t offset_end_;
  const int64_t lowest_, end_;  // keys outside are met by no query of the tile
  bool has_columns_ = false;    // the last run is of this segment
};

// Sum over x < end of x kept within [0, width].
int64_t ramp(int64_t end, int64_t width) {
  if (end <= 0) return 0;
  const int64_t rising = std::min(end, width);
  return rising * (rising - 1) / 2 + (end - rising) * width;
}

// Pairs of keys [first, last) with queries [first_query, last_query) at a distance of at least
// `offset`.
int64_t pairs_from(int64_t first, int64_t last, int64_t offset, int64_t first_query,
                   int64_t last_query) {
  const int64_t shift = 1 - offset - first;  // a query at r meets r + shift of the keys
  return ramp(last_query + shift, last - first) - ramp(first_query + shift, last - first);
}

int64_t whole_groups(SegmentKind kind, std::span<const KeyRun> runs) {
  int64_t groups = 0, columns = 0;
  for (const KeyRun& run : runs) {
    if (kind == SegmentKind::kColumns)
      columns += run.last - run.first;
    else
      groups += (run.last + kGroupKeys - 1) / kGroupKeys - run.first / kGroupKeys;
  }
  return groups + (columns + kGroupKeys - 1) / kGroupKeys;
}

}  // namespace

void key_runs(const PlannedRows& rows, int64_t tile, std::vector<KeyRun>& runs) {
  runs.clear();
  const auto program = segments_of(rows);
  for (const PlanSegment& segment : program)
    SegmentRuns(rows, tile, program, segment, runs).append();
}

int64_t pairs_of(const KeyRun& run, int64_t first_query, int64_t last_query) {
  if (run.first >= run.last || first_query >= last_query) return 0;
  const auto from = [&](int64_t offset) {
    return pairs_from(run.first, run.last, offset, first_query, last_query);
  };
  return from(run.offset_begin) - from(run.offset_end);
}

PlanSize& PlanSize::operator+=(const PlanSize& other) {
  required += other.required;
  computed += other.computed;
  causal += other.causal;
  return *this;
}

double PlanSize::density() const {
  return causal == 0 ? 1 : static_cast<double>(required) / static_cast<double>(causal);
}

PlanSize plan_size(const PlannedRows& rows) {
  const int64_t end = rows.query_offset + rows.rows;
  PlanSize size{.causal = pairs_of({.first = 0,
                                    .last = end,
                                    .offset_begin = 0,
                                    .offset_end = rows.window > 0 ? rows.window : end},
                                   rows.query_offset, end)};
  const auto program = segments_of(rows);
  std::vector<KeyRun> runs;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
    const int64_t first = rows.tile_begin(tile), last = rows.tile_end(tile);
    for (const PlanSegment& segment : program) {
      runs.clear();
      SegmentRuns(rows, tile, program, segment, runs).append();
      for (const KeyRun& run : runs) size.required += pairs_of(run, first, last);
      size.computed += (last - first) * kGroupKeys * whole_groups(segment.kind, runs);
    }
  }
  return size;
}

}  // namespace kvasir::kernels

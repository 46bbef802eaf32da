#include "prefill/minference/vertical_slash_index.h"

#include <algorithm>

#include "base/check.h"

namespace kvasir::prefill::minference {
namespace {

using kernels::PlanSegment;
using kernels::SegmentKind;

constexpr int32_t kSquare = 64;

// Keys [first, last).
struct KeyRun {
  int64_t first = 0;
  int64_t last = 0;
};

// The chosen columns that `runs` (ascending, disjoint, moved by `base`) do not hold.
template <class Runs, class Take>
void columns_outside(std::span<const int32_t> columns, int64_t below, const Runs& runs, Take take) {
  size_t run = 0;
  for (const int32_t column : columns) {
    if (column >= below) return;
    while (run < runs.size() && runs[run].last <= column) ++run;
    if (run == runs.size() || column < runs[run].first) take(column);
  }
}

// The released code's greedy merge for the tile that ends before position `end`: offsets from the
// farthest on, each a square of keys; squares that touch what is there grow it by a whole square.
std::vector<KeyRun> merge_squares(std::span<const int32_t> offsets, int64_t end) {
  std::vector<KeyRun> runs;
  for (auto offset = offsets.rbegin(); offset != offsets.rend(); ++offset) {
    if (*offset >= end) continue;
    const int64_t last = std::max<int64_t>(end - *offset, kSquare);
    if (runs.empty() || last > runs.back().last + kSquare)
      runs.push_back({.first = last - kSquare, .last = last});
    else if (last > runs.back().last)
      runs.back().last += kSquare;
  }
  return runs;
}

}  // namespace

std::vector<RelativeRun> relative_runs(std::span<const int32_t> offsets, int32_t row_tile) {
  std::vector<RelativeRun> runs;
  for (auto offset = offsets.rbegin(); offset != offsets.rend(); ++offset) {
    const int32_t first = -*offset;
    if (!runs.empty() && first <= runs.back().first + runs.back().count)
      runs.back().count = first + row_tile - runs.back().first;
    else
      runs.push_back({.first = first, .count = row_tile});
  }
  return runs;
}

ProgramSize append_relative_index(const Selection& selection, const Chunk& chunk,
                                  PlanBuffer& output) {
  KVASIR_CHECK(!selection.offsets.empty() && selection.offsets.front() == 0,
               "a row without its own key may be empty");
  const auto runs = relative_runs(selection.offsets, chunk.row_tile);
  for (const RelativeRun& run : runs)
    output.segments.push_back(
        {.kind = SegmentKind::kRelative, .first = run.first, .count = run.count});
  // Offset 0 holds whatever a tile sees from its first query on.
  const auto columns = std::span(selection.columns);
  const int64_t last_tile = chunk.tile_position(chunk.tiles() - 1);
  const auto used = std::ranges::lower_bound(columns, last_tile) - columns.begin();
  if (used > 0)
    output.segments.push_back({.kind = SegmentKind::kColumns,
                               .first = static_cast<int32_t>(output.columns.size()),
                               .count = static_cast<int32_t>(used)});
  output.columns.insert(output.columns.end(), columns.begin(), columns.begin() + used);

  ProgramSize size;
  std::vector<KeyRun> here(runs.size());
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
    const int64_t position = chunk.tile_position(tile), end = chunk.tile_end(tile);
    const int64_t rows = end - position;
    int64_t keys = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      here[i] = {.first = std::max<int64_t>(0, position + runs[i].first),
                 .last = std::min(end, position + runs[i].first + runs[i].count)};
      keys += std::max<int64_t>(0, here[i].last - here[i].first);
    }
    columns_outside(columns, position, here, [&keys](int32_t) { ++keys; });
    size.pairs += rows * keys;
    size.dense_pairs += rows * end;
  }
  return size;
}

ProgramSize append_reference_index(const Selection& selection, const Chunk& chunk,
                                   PlanBuffer& output) {
  KVASIR_CHECK(chunk.row_tile == kSquare, "the released code has tiles of 64 queries");
  ProgramSize size;
  for (int64_t tile = 0; tile < chunk.tiles(); ++tile) {
    const int64_t position = chunk.tile_position(tile), end = chunk.tile_end(tile);
    const int64_t rows = end - position;
    size.dense_pairs += rows * end;
    // A last tile of fewer queries is merged as if it were whole.
    const auto runs = merge_squares(selection.offsets, position + kSquare);
    if (runs.empty()) continue;
    const auto index = static_cast<int32_t>(tile);
    for (const KeyRun& run : runs) {
      output.segments.push_back({.kind = SegmentKind::kAbsolute,
                                 .first = static_cast<int32_t>(run.first),
                                 .count = static_cast<int32_t>(run.last - run.first),
                                 .tile_begin = index,
                                 .tile_end = index + 1});
      size.pairs += rows * std::max<int64_t>(0, std::min(run.last, end) - run.first);
    }
    const auto first_column = static_cast<int32_t>(output.columns.size());
    columns_outside(selection.columns, runs.back().last, runs,
                    [&output](int32_t column) { output.columns.push_back(column); });
    const auto columns = static_cast<int32_t>(output.columns.size()) - first_column;
    size.pairs += rows * columns;
    if (columns > 0)
      output.segments.push_back({.kind = SegmentKind::kColumns,
                                 .first = first_column,
                                 .count = columns,
                                 .tile_begin = index,
                                 .tile_end = index + 1});
  }
  return size;
}

}  // namespace kvasir::prefill::minference

#include "report/coverage.h"

#include <algorithm>

#include "base/check.h"

namespace kvasir::report {

using kernels::KeyRun;

CoverageMap::CoverageMap(int64_t length, int most_pixels)
    : length_(length),
      pixels_(static_cast<int>(std::min<int64_t>(length, most_pixels))),
      pairs_(static_cast<size_t>(pixels_) * static_cast<size_t>(pixels_)) {
  KVASIR_CHECK(length > 0 && most_pixels > 0);
}

int64_t CoverageMap::pixel_of(int64_t token) const {
  int64_t pixel = std::min<int64_t>(token * pixels_ / length_, pixels_ - 1);
  while (edge(pixel) > token) --pixel;
  while (edge(pixel + 1) <= token) ++pixel;
  return pixel;
}

void CoverageMap::add_run(const KeyRun& run, int64_t first_query, int64_t last_query) {
  for (int64_t row = pixel_of(first_query); row < pixels_ && edge(row) < last_query; ++row) {
    const int64_t first = std::max(first_query, edge(row));
    const int64_t last = std::min(last_query, edge(row + 1));
    // Keys that these queries meet.
    const int64_t begin = std::max(run.first, first - run.offset_end + 1);
    const int64_t end = std::min(run.last, last - run.offset_begin);
    if (begin >= end) continue;
    for (int64_t column = pixel_of(begin); column < pixels_ && edge(column) < end; ++column) {
      KeyRun part = run;
      part.first = std::max(begin, edge(column));
      part.last = std::min(end, edge(column + 1));
      pairs_[static_cast<size_t>(row * pixels_ + column)] += kernels::pairs_of(part, first, last);
    }
  }
}

void CoverageMap::add(const kernels::PlannedRows& rows) {
  const int64_t end = rows.query_offset + rows.rows;
  KVASIR_CHECK(rows.query_offset >= 0 && end <= length_, "rows of another prompt");
  if (rows.rows == 0) return;
  if (!rows.plan) {
    const int64_t reach = rows.window > 0 ? rows.window : end;
    add_run({.first = 0, .last = end, .offset_begin = 0, .offset_end = reach}, rows.query_offset,
            end);
    return;
  }
  std::vector<KeyRun> runs;
  for (int64_t tile = 0; tile < rows.tiles(); ++tile) {
    kernels::key_runs(rows, tile, runs);
    for (const KeyRun& run : runs) add_run(run, rows.tile_begin(tile), rows.tile_end(tile));
  }
}

double CoverageMap::share(int row, int column) const {
  const int64_t first = edge(row), last = edge(row + 1);
  const int64_t causal = kernels::pairs_of(
      {.first = edge(column), .last = edge(column + 1), .offset_begin = 0, .offset_end = length_},
      first, last);
  if (causal == 0) return 0;
  return static_cast<double>(pairs_[static_cast<size_t>(row) * static_cast<size_t>(pixels_) +
                                    static_cast<size_t>(column)]) /
         static_cast<double>(causal);
}

}  // namespace kvasir::report

#pragma once
// What a head computes of a prompt's pairs of queries and keys, at the resolution of a picture.

#include <cstdint>
#include <vector>

#include "kernels/paged_attention/plan_size.h"

namespace kvasir::report {

// A square of pixels over a prompt of `length` tokens: row i has the queries [edge(i), edge(i +
// 1)), column j the same of the keys. Pairs are counted, not sampled.
class CoverageMap {
 public:
  // `length` is at least 1; a pixel is at least a token wide.
  CoverageMap(int64_t length, int most_pixels);

  int pixels() const { return pixels_; }
  int64_t length() const { return length_; }
  int64_t edge(int64_t pixel) const { return pixel * length_ / pixels_; }

  // Adds what some rows of the prompt compute. No row is added twice.
  void add(const kernels::PlannedRows& rows);

  // Whether a query of the pixel sees a key of it at all.
  bool is_causal(int row, int column) const { return column <= row; }
  // Computed pairs over causal ones; 0 where none is causal.
  double share(int row, int column) const;

 private:
  int64_t pixel_of(int64_t token) const;
  void add_run(const kernels::KeyRun& run, int64_t first_query, int64_t last_query);

  int64_t length_;
  int pixels_;
  std::vector<int64_t> pairs_;  // [pixels][pixels]
};

}  // namespace kvasir::report

#pragma once
// What one forward and backward pass takes: documents packed one after another.

#include <cstdint>
#include <vector>

namespace kvasir::data {

// A document attends to itself alone, and its positions count from 0.
struct Batch {
  std::vector<int32_t> tokens;     // [rows]
  std::vector<int32_t> targets;    // [rows]: the token that should follow
  std::vector<float> weights;      // [rows] of the row's loss; 0: the target counts nothing
  std::vector<int32_t> documents;  // first row of each document, then rows: [documents + 1]

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
  bool operator==(const Batch&) const = default;
};

// Samples whose answers are to be scored: each run of rows of weight 1 within a document is an
// answer, all other rows weigh 0.
struct AnswerBatch {
  Batch batch;
  std::vector<int32_t> hops;  // [answers], as in Sample; or empty
};

}  // namespace kvasir::data

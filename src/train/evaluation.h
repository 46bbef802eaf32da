#pragma once
// What a run is measured on, and what was found.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/batch.h"

namespace kvasir::train {

struct EvaluationSet {
  std::string name;  // "books", or the task's
  int64_t length = 0;
  // Books: the mean loss of all rows. Otherwise samples: the loss of their answers, and how many of
  // those are right.
  bool has_answers = false;
  std::vector<data::AnswerBatch> batches;
};

// Answers whose every token, the end's too, is the likeliest behind the golden ones before it: what
// a greedy answer that starts the same comes to, for the price of one forward pass.
struct Accuracy {
  int64_t answers = 0, exact = 0;

  double share() const {
    return answers > 0 ? static_cast<double>(exact) / static_cast<double>(answers) : 0;
  }
  void add(bool is_exact) {
    ++answers;
    exact += is_exact;
  }
};

struct Measurement {
  std::string name;
  int64_t length = 0;
  double loss = 0;
  std::optional<Accuracy> accuracy;     // of a set that has answers
  std::map<int32_t, Accuracy> by_hops;  // of a task with chains
};

// The rows [first, last) of each answer of a batch.
struct AnswerRows {
  int64_t first = 0, last = 0;
};
std::vector<AnswerRows> answers_of(const Batch& batch);

// For a person, a line for each length: "step 500  exact answers at 1,024: kv 0.93  var 0.40
// (hops 1 0.91, 2 0.40)".
std::vector<std::string> evaluation_lines(int64_t step, std::span<const Measurement> found);

}  // namespace kvasir::train

#pragma once
// Samples of the tiny family for training: sessions with many turns, as the ids they are.

#include "data/recipe.h"
#include "data/sample.h"

namespace kvasir::data {

class TinySamples final : public SampleSource {
 public:
  explicit TinySamples(const DataRecipe& data);

  // Turns take about data.question_fraction of the sample, and there is one at least; mqar asks for
  // all that it holds. Sessions for training have seeds of at least 2^63, held-out ones, and those
  // of the benchmark, lower ones: no session is ever both.
  Sample make(const SampleRequest& request) const override;

 private:
  double question_fraction_;
  int64_t most_turns_;
  float context_weight_, answer_weight_;
};

}  // namespace kvasir::data

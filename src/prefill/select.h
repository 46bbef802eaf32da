#pragma once
// Which of some scores are taken. Of equal scores the first are: selections are the same wherever
// they are made.

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace kvasir::prefill {

// The scores above `lowest`, and of those equal to it the first `equal`. NaN counts as -infinity.
struct Cut {
  float lowest = std::numeric_limits<float>::infinity();
  int64_t equal = 0;
  int64_t count = 0;  // of all that are taken

  // Calls take(index) for what is taken, ascending.
  template <class Take>
  void for_each(std::span<const float> scores, Take take) const {
    int64_t left = equal;
    for (int64_t i = 0; i < std::ssize(scores); ++i) {
      const float score = scores[static_cast<size_t>(i)];
      const float known = std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
      if (known > lowest || (known == lowest && left-- > 0)) take(i);
    }
  }
};

// The `count` highest scores. `scratch` is used again and again.
Cut cut_highest(std::span<const float> scores, int64_t count, std::vector<float>& scratch);

// The fewest of the highest scores whose sum reaches `mass`; all where none does, none where `mass`
// is 0 or less. Scores below 0 count as 0. Takes time in the order of the number of scores.
Cut cut_reaching(std::span<const float> scores, double mass, std::vector<float>& scratch);

// In the order of the scores.
double sum_of(std::span<const float> scores);

// The indices of the `count` highest, ascending.
void select_highest(std::span<const float> scores, int64_t count, std::vector<float>& scratch,
                    std::vector<int32_t>& indices);

}  // namespace kvasir::prefill

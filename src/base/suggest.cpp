#include "base/suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "kvasir/error.h"

namespace kvasir {

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int>> cost(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replace = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({replace, cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

std::string nearest(std::string_view word, std::span<const std::string> known) {
  // A shortened or a longer form: at least three letters in common from the start.
  const size_t dashes = std::min(word.find_first_not_of('-'), word.size());
  if (word.size() - dashes >= 3)
    for (const std::string& candidate : known)
      if (candidate.starts_with(word) ||
          (candidate.size() >= dashes + 3 && word.starts_with(candidate)))
        return candidate;
  // A slip: one letter in three. In a short word that would be another word ("gpu", "cpu"), so
  // there only letters may have changed places.
  const bool is_short = word.size() < 4;
  std::string best;
  int best_distance = static_cast<int>(std::max<size_t>(1, word.size() / 3)) + 1;
  for (const std::string& candidate : known) {
    const int distance = edit_distance(word, candidate);
    if (distance >= best_distance) continue;
    if (is_short &&
        !std::is_permutation(word.begin(), word.end(), candidate.begin(), candidate.end()))
      continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> known) {
  const std::string near = nearest(word, known);
  return near.empty() ? std::string{} : fmt::format("; did you mean '{}'?", near);
}

std::string choose(std::string_view what, std::string_view value,
                   std::span<const std::string> known) {
  for (const std::string& candidate : known)
    if (candidate == value) return candidate;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("expected one of {}, found '{}'{}", fmt::join(known, ", "), value,
                          did_you_mean(value, known)),
              std::string(what));
}

}  // namespace kvasir

#include "tasks/random.h"

#include <unordered_map>

namespace kvasir::tasks {

std::vector<uint64_t> Random::sample(uint64_t bound, uint64_t count) {
  std::unordered_map<uint64_t, uint64_t> moved;  // the places of 0, 1, 2, ... that were swapped
  const auto at = [&](uint64_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  std::vector<uint64_t> chosen;
  chosen.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t j = i + below(bound - i);
    chosen.push_back(at(j));
    moved[j] = at(i);
  }
  return chosen;
}

}  // namespace kvasir::tasks

#include "tasks/noise.h"

#include <algorithm>

namespace kvasir::tasks {
namespace {

using Placed = std::vector<std::pair<size_t, std::string>>;  // before which line

std::string joined(const std::vector<std::string>& lines, Placed placed) {
  std::stable_sort(placed.begin(), placed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string text;
  auto next = placed.begin();
  for (size_t line = 0; line <= lines.size(); ++line) {
    for (; next != placed.end() && next->first == line; ++next) text += next->second + "\n";
    if (line < lines.size()) text += lines[line] + "\n";
  }
  text.pop_back();
  return text;
}

}  // namespace

std::string noise_with(Random& random, size_t lines, std::vector<std::vector<std::string>> chains) {
  Placed placed;
  for (auto& chain : chains) {
    std::vector<size_t> places;
    for (size_t i = 0; i < chain.size(); ++i) places.push_back(random.below(lines + 1));
    std::sort(places.begin(), places.end());
    for (size_t i = 0; i < chain.size(); ++i) placed.emplace_back(places[i], std::move(chain[i]));
  }
  return joined(std::vector<std::string>(lines, std::string(kNoiseLine)), std::move(placed));
}

std::string lines_with(Random& random, const std::vector<std::string>& lines,
                       const std::vector<std::string>& statements) {
  Placed placed;
  for (const std::string& each : statements)
    placed.emplace_back(random.below(lines.size() + 1), each);
  return joined(lines, std::move(placed));
}

}  // namespace kvasir::tasks

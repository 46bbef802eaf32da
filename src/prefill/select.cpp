#include "prefill/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <numeric>

namespace kvasir::prefill {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Bits of a score that is at least 0 are ordered as the scores are; the upper ones, the exponent
// and three more, are its bin.
constexpr int kBinShift = 20;
constexpr size_t kBins = size_t{1} << (31 - kBinShift);

size_t bin_of(float score) {
  return score > 0 ? std::bit_cast<uint32_t>(score) >> kBinShift : 0;  // NaN: 0
}

struct Bins {
  std::array<int32_t, kBins> counts{};
  std::array<double, kBins> sums{};
};

}  // namespace

Cut cut_highest(std::span<const float> scores, int64_t count, std::vector<float>& scratch) {
  if (count <= 0) return {};
  if (count >= std::ssize(scores))
    return {.lowest = -kInfinity, .equal = std::ssize(scores), .count = std::ssize(scores)};
  scratch.resize(scores.size());
  std::ranges::transform(scores, scratch.begin(),
                         [](float score) { return std::isnan(score) ? -kInfinity : score; });
  const auto last = scratch.begin() + count - 1;
  std::nth_element(scratch.begin(), last, scratch.end(), std::greater<>());
  const float lowest = *last;
  const int64_t above =
      std::count_if(scratch.begin(), last, [lowest](float score) { return score > lowest; });
  return {.lowest = lowest, .equal = count - above, .count = count};
}

Cut cut_reaching(std::span<const float> scores, double mass, std::vector<float>& scratch) {
  if (mass <= 0 || scores.empty()) return {};
  Bins bins;
  for (const float score : scores) {
    const size_t bin = bin_of(score);
    ++bins.counts[bin];
    if (score > 0) bins.sums[bin] += score;
  }
  Cut cut;
  size_t bin = kBins - 1;
  for (; bins.sums[bin] < mass; --bin) {
    if (bin == 0)
      return {.lowest = -kInfinity, .equal = std::ssize(scores), .count = std::ssize(scores)};
    mass -= bins.sums[bin];
    cut.count += bins.counts[bin];
  }
  scratch.clear();
  for (const float score : scores)
    if (bin_of(score) == bin) scratch.push_back(score > 0 ? score : 0);
  std::ranges::sort(scratch, std::greater<>());
  for (const float score : scratch) {
    cut.equal = score == cut.lowest ? cut.equal + 1 : 1;
    cut.lowest = score;
    ++cut.count;
    mass -= score;
    if (mass <= 0) break;
  }
  return cut;
}

double sum_of(std::span<const float> scores) {
  return std::accumulate(scores.begin(), scores.end(), 0.0);
}

void select_highest(std::span<const float> scores, int64_t count, std::vector<float>& scratch,
                    std::vector<int32_t>& indices) {
  indices.clear();
  cut_highest(scores, count, scratch).for_each(scores, [&indices](int64_t i) {
    indices.push_back(static_cast<int32_t>(i));
  });
}

}  // namespace kvasir::prefill

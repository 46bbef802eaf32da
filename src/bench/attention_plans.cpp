#include "bench/attention_plans.h"

#include <algorithm>
#include <random>

namespace kvasir::bench {
namespace {

using kernels::PlanSegment;
using kernels::SegmentKind;

constexpr int32_t kRowTile = 128;
constexpr int64_t kBlockKeys = 64;
constexpr int64_t kRunOffsets = 64;
constexpr int64_t kRecentOffsets = 100;
constexpr int64_t kFirstKeys = 128;
constexpr double kShareOfColumns = 0.4;

}  // namespace

std::string_view name_of(CpuPlanKind kind) {
  switch (kind) {
    case CpuPlanKind::kBlocks:
      return "blocks";
    case CpuPlanKind::kSharedBlocks:
      return "shared blocks";
    case CpuPlanKind::kAShape:
      return "a-shape";
    case CpuPlanKind::kSlashes:
      return "vertical-slash";
  }
  return "";
}

CpuPlan::CpuPlan(CpuPlanKind kind, double density, int q_heads, int group, int64_t length,
                 int64_t rows) {
  for (int head = 0; head < q_heads; ++head) {
    const bool is_shared = kind == CpuPlanKind::kSharedBlocks || kind == CpuPlanKind::kAShape;
    if (is_shared && head % group != 0) {
      heads_.push_back(heads_.back());
      continue;
    }
    const auto first = static_cast<int32_t>(segments_.size());
    const auto seed = static_cast<uint32_t>(head + 1);
    if (kind == CpuPlanKind::kAShape)
      add_a_shape(density, length);
    else if (kind == CpuPlanKind::kSlashes)
      add_slashes(density, length, seed);
    else
      add_blocks(density, length, rows, seed);
    heads_.push_back({first, static_cast<int32_t>(segments_.size()) - first});
  }
}

kernels::AttentionPlan CpuPlan::view() const {
  return {.row_tile = kRowTile,
          .heads = heads_,
          .segments = segments_,
          .columns = columns_,
          .block_bits = bits_};
}

void CpuPlan::add_blocks(double density, int64_t length, int64_t rows, uint32_t seed) {
  std::mt19937 random(seed);
  const int64_t words = (length + 32 * kBlockKeys - 1) / (32 * kBlockKeys);
  segments_.push_back({.kind = SegmentKind::kBlocks,
                       .first = static_cast<int32_t>(bits_.size()),
                       .count = static_cast<int32_t>(words)});
  for (int64_t row = 0; row < rows; row += kRowTile) {
    const int64_t position = length - rows + row;
    const int64_t blocks = (std::min(position + kRowTile, length) + kBlockKeys - 1) / kBlockKeys;
    std::vector<uint32_t> tile(static_cast<size_t>(words));
    int64_t found = 0;
    const auto add = [&](int64_t block) {
      uint32_t& word = tile[static_cast<size_t>(block / 32)];
      const uint32_t bit = 1u << (block % 32);
      found += (word & bit) == 0;
      word |= bit;
    };
    add(0);
    for (int64_t block = position / kBlockKeys; block < blocks; ++block) add(block);
    const auto wanted = static_cast<int64_t>(density * static_cast<double>(blocks));
    while (found < wanted) add(static_cast<int64_t>(random() % static_cast<uint64_t>(blocks)));
    bits_.insert(bits_.end(), tile.begin(), tile.end());
  }
}

void CpuPlan::add_a_shape(double density, int64_t length) {
  const auto keys = static_cast<int64_t>(density * static_cast<double>(length));
  const auto local = static_cast<int32_t>(std::max(kFirstKeys, keys - kFirstKeys));
  segments_.push_back({.count = kernels::kNoBound, .offset_end = local});
  segments_.push_back({.count = static_cast<int32_t>(kFirstKeys), .offset_begin = local});
}

void CpuPlan::add_slashes(double density, int64_t length, uint32_t seed) {
  std::mt19937 random(seed);
  const double keys = density * static_cast<double>(length);
  const auto below = [&](int64_t end) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(end));
  };
  // Offsets [o, o + 64) are the keys from -o - 63 to 128 - o beside a row tile.
  struct Run {
    int64_t first, last;
  };
  std::vector<Run> runs{{-kRecentOffsets, kRowTile}};
  const auto count = static_cast<int64_t>((1 - kShareOfColumns) * keys /
                                          static_cast<double>(kRunOffsets - 1 + kRowTile));
  for (int64_t i = 0; i < std::max<int64_t>(1, count); ++i) {
    const int64_t offset = below(length);
    runs.push_back({-offset - kRunOffsets + 1, -offset + kRowTile});
  }
  std::ranges::sort(runs, {}, &Run::first);
  std::vector<Run> apart;
  for (const Run& run : runs)
    if (!apart.empty() && run.first <= apart.back().last)
      apart.back().last = std::max(apart.back().last, run.last);
    else
      apart.push_back(run);
  for (const Run& run : apart)
    segments_.push_back({.kind = SegmentKind::kRelative,
                         .first = static_cast<int32_t>(run.first),
                         .count = static_cast<int32_t>(run.last - run.first)});
  std::vector<int32_t> columns;
  for (auto i = static_cast<int64_t>(kShareOfColumns * keys); i > 0; --i)
    columns.push_back(static_cast<int32_t>(below(length)));
  std::ranges::sort(columns);
  columns.erase(std::ranges::unique(columns).begin(), columns.end());
  segments_.push_back({.kind = SegmentKind::kColumns,
                       .first = static_cast<int32_t>(columns_.size()),
                       .count = static_cast<int32_t>(columns.size())});
  columns_.insert(columns_.end(), columns.begin(), columns.end());
}

}  // namespace kvasir::bench

#include "bench/gpu_plans_cuda.h"

#include <algorithm>
#include <random>

namespace kvasir::bench {
namespace {

using kernels::PlanSegment;
using kernels::SegmentKind;

constexpr int64_t kSquare = 64;   // of the released kernels' rule
constexpr int64_t kRecent = 100;  // offsets that are always in
constexpr int64_t kColumnCount = 1000;
constexpr int64_t kRunOffsets = 64;
constexpr int kSampledTiles = 64;

// Keys [first, last) relative to a row tile.
struct Run {
  int64_t first, last;
};

// What tiles of `rows` queries meet of the offsets, ascending in keys and disjoint.
std::vector<Run> runs_of(const std::vector<int64_t>& descending_offsets, int64_t rows) {
  std::vector<Run> runs;
  for (const int64_t offset : descending_offsets) {
    if (!runs.empty() && -offset <= runs.back().last)
      runs.back().last = rows - offset;
    else
      runs.push_back({-offset, rows - offset});
  }
  return runs;
}

// Squares of the rule for the tile of 64 queries from `position` on, in keys.
int64_t square_keys(const std::vector<int64_t>& descending_offsets, int64_t position) {
  int64_t begin = 0, end = 0, sum = 0;
  bool has_any = false;
  for (const int64_t offset : descending_offsets) {
    if (offset >= position + kSquare) continue;
    const int64_t last = std::max(position + kSquare - offset, kSquare);
    if (!has_any || last > end + kSquare) {
      if (has_any) sum += end - begin;
      begin = last - kSquare;
      end = last;
      has_any = true;
    } else if (last > end) {
      end += kSquare;
    }
  }
  return sum + end - begin;
}

}  // namespace

std::string_view name_of(PlanKind kind) {
  switch (kind) {
    case PlanKind::kSlashRuns:
      return "vertical-slash in runs of 64";
    case PlanKind::kSlashRandom:
      return "vertical-slash";
    case PlanKind::kColumns:
      return "columns";
    case PlanKind::kBlocks:
      return "blocks";
    case PlanKind::kTriangle:
      return "triangle";
    case PlanKind::kDense:
      return "dense plan";
  }
  return "";
}

SyntheticPlan::SyntheticPlan(const PlanShape& shape, int q_heads, int64_t length) {
  for (int head = 0; head < q_heads; ++head) {
    const auto seed = static_cast<uint32_t>(head + 1);
    const auto first = static_cast<int32_t>(segments_.size());
    if (shape.kind == PlanKind::kBlocks)
      add_blocks(shape, length, seed);
    else if (shape.kind == PlanKind::kTriangle || shape.kind == PlanKind::kDense)
      add_bounds(shape, length);
    else
      add_slashes(shape, length, seed);
    heads_.push_back({first, static_cast<int32_t>(segments_.size()) - first});
  }
  upload(shape.row_tile);
}

void SyntheticPlan::add_slashes(const PlanShape& shape, int64_t length, uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](int64_t end) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(end));
  };
  const auto all = static_cast<double>(length) * static_cast<double>(length) / 2;
  const bool only_columns = shape.kind == PlanKind::kColumns;
  // Columns are uniform over the keys: each is seen by half of the queries on average.
  int64_t column_count = std::min(kColumnCount, length / 8);
  if (only_columns)
    column_count = static_cast<int64_t>(shape.density * static_cast<double>(length));
  std::vector<int64_t> offsets;
  for (int64_t offset = 0; offset < std::min(kRecent, length); ++offset) offsets.push_back(offset);
  const int64_t step = shape.kind == PlanKind::kSlashRuns ? kRunOffsets : 1;
  double area = static_cast<double>(column_count) * static_cast<double>(length) / 2 +
                static_cast<double>(kRecent + shape.row_tile) * static_cast<double>(length);
  while (!only_columns && area < shape.density * all && length > 4 * step) {
    const int64_t offset = kRecent + below(length - kRecent - step);
    for (int64_t i = 0; i < step; ++i) offsets.push_back(offset + i);
    area += static_cast<double>(length - offset) * static_cast<double>(step - 1 + shape.row_tile);
  }
  std::ranges::sort(offsets, std::greater<>());
  offsets.erase(std::ranges::unique(offsets).begin(), offsets.end());
  std::vector<int32_t> columns;
  for (int64_t i = 0; i < column_count; ++i) columns.push_back(static_cast<int32_t>(below(length)));
  std::ranges::sort(columns);
  columns.erase(std::ranges::unique(columns).begin(), columns.end());

  const std::vector<Run> runs = runs_of(offsets, shape.row_tile);
  for (const Run& run : runs)
    segments_.push_back({.kind = SegmentKind::kRelative,
                         .first = static_cast<int32_t>(run.first),
                         .count = static_cast<int32_t>(run.last - run.first)});
  segments_.push_back({.kind = SegmentKind::kColumns,
                       .first = static_cast<int32_t>(columns_.size()),
                       .count = static_cast<int32_t>(columns.size())});
  columns_.insert(columns_.end(), columns.begin(), columns.end());

  // Both over some tiles. Columns in squares or runs are few and counted with them.
  const int64_t tiles = std::max<int64_t>(length / shape.row_tile, 1);
  const int64_t samples = std::min<int64_t>(tiles, kSampledTiles);
  double held = 0, required = 0;
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t position = (2 * i + 1) * tiles / (2 * samples) * shape.row_tile;
    const auto before =
        static_cast<double>(std::ranges::lower_bound(columns, position) - columns.begin());
    double keys = 0;
    for (const Run& run : runs)
      keys += static_cast<double>(
          std::max<int64_t>(0, std::min<int64_t>(position + run.last, position + shape.row_tile) -
                                   std::max<int64_t>(0, position + run.first)));
    const double outside =
        before * (1 - std::min(1.0, keys / static_cast<double>(std::max<int64_t>(position, 1))));
    held += keys + outside;
    required += static_cast<double>(square_keys(offsets, position)) + outside;
  }
  held_pairs_ += held / static_cast<double>(samples) * static_cast<double>(length);
  required_pairs_ += required / static_cast<double>(samples) * static_cast<double>(length);
}

void SyntheticPlan::add_blocks(const PlanShape& shape, int64_t length, uint32_t seed) {
  std::mt19937 random(seed);
  const int64_t tiles = (length + shape.row_tile - 1) / shape.row_tile;
  const int64_t words = (length + 2047) / 2048;
  const auto limit = static_cast<uint32_t>(shape.density * 4294967295.0);
  segments_.push_back({.kind = SegmentKind::kBlocks,
                       .first = static_cast<int32_t>(bits_.size()),
                       .count = static_cast<int32_t>(words)});
  double held = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    std::vector<uint32_t> row(static_cast<size_t>(words));
    const int64_t blocks = ((tile + 1) * shape.row_tile + kSquare - 1) / kSquare;
    for (int64_t block = 0; block < blocks; ++block) {
      const bool is_diagonal = (block + 1) * kSquare > tile * shape.row_tile;
      if (!is_diagonal && random() > limit) continue;
      row[static_cast<size_t>(block / 32)] |= 1u << (block % 32);
      held += static_cast<double>(kSquare * shape.row_tile);
    }
    bits_.insert(bits_.end(), row.begin(), row.end());
  }
  held_pairs_ += held;
  required_pairs_ += held;
}

void SyntheticPlan::add_bounds(const PlanShape& shape, int64_t length) {
  const auto size = static_cast<double>(length);
  if (shape.kind == PlanKind::kDense) {
    segments_.push_back({.count = kernels::kNoBound});
    held_pairs_ += size * size / 2;
    required_pairs_ = held_pairs_;
    return;
  }
  constexpr int32_t kFirst = 8, kWindow = 512, kLast = 128;
  const auto split = static_cast<int32_t>((length - kLast) / shape.row_tile);
  segments_.push_back({.count = kFirst, .offset_begin = kWindow, .tile_end = split});
  segments_.push_back({.count = kernels::kNoBound, .offset_end = kWindow, .tile_end = split});
  segments_.push_back({.count = kernels::kNoBound, .tile_begin = split});
  held_pairs_ += size * (kFirst + kWindow + kLast);
  required_pairs_ = held_pairs_;
}

void SyntheticPlan::upload(int32_t row_tile) {
  const auto copy = [](const auto& values) {
    cuda::DeviceMemory memory(values.size() * sizeof(values[0]));
    if (!values.empty())
      KVASIR_CUDA(cudaMemcpy(memory.data(), values.data(), memory.bytes(), cudaMemcpyHostToDevice));
    return memory;
  };
  heads_memory_ = copy(heads_);
  segments_memory_ = copy(segments_);
  columns_memory_ = copy(columns_);
  bits_memory_ = copy(bits_);
  const std::vector<kernels::CudaAttentionPlan> plan{
      {.heads = reinterpret_cast<const kernels::HeadProgram*>(heads_memory_.data()),
       .segments = reinterpret_cast<const PlanSegment*>(segments_memory_.data()),
       .columns = reinterpret_cast<const int32_t*>(columns_memory_.data()),
       .block_bits = reinterpret_cast<const uint32_t*>(bits_memory_.data()),
       .row_tile = row_tile}};
  plan_ = copy(plan);
}

}  // namespace kvasir::bench

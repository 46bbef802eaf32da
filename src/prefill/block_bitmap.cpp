#include "prefill/block_bitmap.h"

#include <algorithm>
#include <bit>

namespace kvasir::prefill {
namespace {

constexpr int64_t kBlockKeys = 64, kWordBlocks = 32;

}  // namespace

BlockBitmap::BlockBitmap(const Chunk& chunk, PlanBuffer& plan)
    : chunk_(chunk),
      plan_(&plan),
      words_((chunk.length() + kBlockKeys * kWordBlocks - 1) / (kBlockKeys * kWordBlocks)),
      first_word_(plan.block_bits.size()) {
  plan.block_bits.resize(first_word_ + static_cast<size_t>(chunk.tiles() * words_));
}

uint32_t* BlockBitmap::row(int64_t tile) const {
  return plan_->block_bits.data() + first_word_ + tile * words_;
}

void BlockBitmap::add(int64_t tile, int64_t first, int64_t last) {
  first = std::max<int64_t>(first, 0);
  last = std::min(last, chunk_.tile_end(tile));
  for (int64_t block = first / kBlockKeys; block * kBlockKeys < last; ++block)
    row(tile)[block / kWordBlocks] |= uint32_t{1} << (block % kWordBlocks);
}

kernels::PlanSegment BlockBitmap::segment() const {
  return {.kind = kernels::SegmentKind::kBlocks,
          .first = static_cast<int32_t>(first_word_),
          .count = static_cast<int32_t>(words_)};
}

ProgramSize BlockBitmap::size() const {
  ProgramSize size;
  for (int64_t tile = 0; tile < chunk_.tiles(); ++tile) {
    const int64_t end = chunk_.tile_end(tile), rows = end - chunk_.tile_position(tile);
    const int64_t last_block = (end - 1) / kBlockKeys;
    const uint32_t* bits = row(tile);
    int64_t blocks = 0;
    for (int64_t word = 0; word < words_; ++word) blocks += std::popcount(bits[word]);
    const bool has_last = bits[last_block / kWordBlocks] >> (last_block % kWordBlocks) & 1;
    const int64_t beyond = has_last ? (last_block + 1) * kBlockKeys - end : 0;
    size.pairs += rows * (blocks * kBlockKeys - beyond);
    size.dense_pairs += rows * end;
  }
  return size;
}

void end_bitmap_head(const BlockBitmap& bitmap, double densest, Report& report, PlanBuffer& plan) {
  const double density = bitmap.size().density();
  const size_t first = plan.segments.size();
  if (density > densest) {
    plan.segments.push_back({.count = kernels::kNoBound});
    ++report.dense_heads;
  } else {
    plan.segments.push_back(bitmap.segment());
    report.densest_head = std::max(report.densest_head, density);
  }
  plan.end_head(first);
}

}  // namespace kvasir::prefill

// bf16 where the CPU has matrix tiles. A key group is consecutive in its page, and a tile of A is
// 32 elements of 16 of them; a tile of B is the same elements of 16 query groups in pairs, so that
// scores come out as [key group][query group] and the sums over keys are sums of vectors.
//
// Two key tiles meet all panels, two at a time. The keys are staged tile by tile, a stretch of
// elements that fits the L1 cache; where a group is longer, sums rest between stretches.

#include <immintrin.h>

#include "kernels/antidiagonal/antidiagonal_part.h"

namespace kvasir::kernels {
namespace {

// clang-format off: each uses those before it
#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_tiles.inc"
#include "kernels/antidiagonal/antidiagonal_blocks.inc"
// clang-format on

constexpr int64_t kStepBytes = 64;      // 32 elements of a group
constexpr int64_t kStretchSteps = 16;   // of two key tiles: 32 KiB
constexpr int64_t kScoreFloats = 256;   // of a tile
constexpr int64_t kScoreRowBytes = 64;  // between its rows

// A panel as B operands: [steps][16 pairs of elements][16 query groups].
void pack_panel(const GroupQueries& queries, std::byte* panel) {
  const int64_t row_bytes = queries.head_dim * 2;
  const int64_t bytes = row_bytes * queries.stride;
  // Group by group first, because the queries of one lie apart and in reverse.
  for (int64_t step = 0; step * kStepBytes < bytes; ++step) {
    Bits rows[kWidth];
    alignas(64) std::byte piece[kStepBytes];
    for (int group = 0; group < kGroupsAtOnce; ++group) {
      int64_t filled = 0;
      while (filled < kStepBytes && step * kStepBytes + filled < bytes) {
        const int64_t at = step * kStepBytes + filled, offset = at % row_bytes;
        const int64_t row = int64_t{group + 1} * queries.stride - 1 - at / row_bytes;
        const int64_t rest = row_bytes - offset, free = kStepBytes - filled;
        const auto count = static_cast<size_t>(rest < free ? rest : free);
        if (row < queries.rows)
          __builtin_memcpy(piece + filled, queries.q + row * queries.row_bytes + offset, count);
        else
          __builtin_memset(piece + filled, 0, count);
        filled += static_cast<int64_t>(count);
      }
      __builtin_memset(piece + filled, 0, static_cast<size_t>(kStepBytes - filled));
      rows[group] = load_bits(piece);
    }
    transpose(rows);
    for (int i = 0; i < kWidth; ++i)
      store_bits(panel + step * kTileBytes + i * kStepBytes, rows[i]);
  }
}

// A key tile as A operands: [steps][16 key groups][32 elements]. What lies behind the last key is
// 0.
void stage_keys(const GroupPart& part, int64_t first_group, int64_t steps, std::byte* staged) {
  const int64_t row_bytes = part.head_dim * 2, bytes = row_bytes * part.stride;
  for (int64_t i = 0; i < kGroupsAtOnce; ++i, staged += kStepBytes) {
    const int64_t position = (first_group + i) * part.stride;
    const int64_t keys = part.length - position;
    const int64_t there = keys <= 0 ? 0 : keys < part.stride ? keys * row_bytes : bytes;
    const std::byte* group = nullptr;
    if (there > 0)
      group =
          part.pages + part.page_table[position / 64] * part.page_bytes + position % 64 * row_bytes;
    for (int64_t step = 0; step < steps; ++step) {
      const int64_t at = step * kStepBytes, rest = there - at;
      std::byte* out = staged + step * kTileBytes;
      if (rest >= kStepBytes) {
        __builtin_memcpy(out, group + at, kStepBytes);
        continue;
      }
      __builtin_memset(out, 0, kStepBytes);
      if (rest > 0) __builtin_memcpy(out, group + at, static_cast<size_t>(rest));
    }
  }
}

// Two panels and two key tiles over steps [first, last) of their groups.
struct Stretch {
  const std::byte* panels[2];
  const std::byte* keys[2];
  int64_t first = 0, last = 0;
  // [key tile][panel] tiles of scores: sums so far, where first > 0, and sums.
  float* scores = nullptr;
};

// Tiles 0 to 3: sums; 4 and 5: keys; 6 and 7: queries.
void multiply(const Stretch& stretch) {
  memory_is_read();
  if (stretch.first == 0) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, stretch.scores, kScoreRowBytes);
    _tile_loadd(1, stretch.scores + kScoreFloats, kScoreRowBytes);
    _tile_loadd(2, stretch.scores + 2 * kScoreFloats, kScoreRowBytes);
    _tile_loadd(3, stretch.scores + 3 * kScoreFloats, kScoreRowBytes);
  }
  for (int64_t at = stretch.first * kTileBytes; at < stretch.last * kTileBytes; at += kTileBytes) {
    _tile_loadd(6, stretch.panels[0] + at, kStepBytes);
    _tile_loadd(4, stretch.keys[0] + at, kStepBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, stretch.panels[1] + at, kStepBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, stretch.keys[1] + at, kStepBytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, stretch.scores, kScoreRowBytes);
  _tile_stored(1, stretch.scores + kScoreFloats, kScoreRowBytes);
  _tile_stored(2, stretch.scores + 2 * kScoreFloats, kScoreRowBytes);
  _tile_stored(3, stretch.scores + 3 * kScoreFloats, kScoreRowBytes);
}

// Two key tiles from `group` on against the units (a panel of a head) from `first` on.
void score_step(const GroupPart& part, int64_t group, int64_t first, int64_t steps, float* scores) {
  const int64_t units = part.panel_count * part.heads;
  const std::byte* staged = part.scratch;
  const bool rests = steps > kStretchSteps;
  for (int64_t step = 0; step < steps; step += kStretchSteps) {
    const int64_t last = step + kStretchSteps < steps ? step + kStretchSteps : steps;
    for (int64_t unit = first; unit < units; unit += 2) {
      const int64_t second = unit + 1 < units ? unit + 1 : unit;
      float* here = scores + (rests ? (unit - first) / 2 * 4 * kScoreFloats : 0);
      multiply({.panels = {part.panels + unit * part.panel_bytes,
                           part.panels + second * part.panel_bytes},
                .keys = {staged, staged + steps * kTileBytes},
                .first = step,
                .last = last,
                .scores = here});
      if (last < steps) continue;
      for (int tile = 0; tile < 4; ++tile) {
        const int64_t found = unit + tile % 2;
        if (found < units)
          weigh_tile(part, {.scores = here + tile * kScoreFloats,
                            .panel = found / part.heads,
                            .head = found % part.heads,
                            .group = group + tile / 2 * kGroupsAtOnce});
      }
    }
  }
}

}  // namespace

void pack_groups_amx(const GroupQueries& queries, std::byte* panel) { pack_panel(queries, panel); }

void score_groups_amx(const GroupPart& part) {
  const int64_t steps = padded_elements(group_elements(part.head_dim, part.stride)) / 32;
  const int64_t step_groups = kStepKeyTiles * kGroupsAtOnce;
  auto* scores = reinterpret_cast<float*>(part.scratch + kStepKeyTiles * steps * kTileBytes);
  const TileConfig config;
  load_config(config);
  const int64_t end = (part.first_key + kPartKeys) / part.stride;
  for (int64_t group = part.first_key / part.stride; group < end; group += step_groups) {
    const int64_t first = first_panel(part, group) * part.heads;
    if (first >= part.panel_count * part.heads) break;
    stage_keys(part, group, steps, part.scratch);
    stage_keys(part, group + kGroupsAtOnce, steps, part.scratch + steps * kTileBytes);
    score_step(part, group, first, steps, scores);
  }
  _tile_release();
}

}  // namespace kvasir::kernels

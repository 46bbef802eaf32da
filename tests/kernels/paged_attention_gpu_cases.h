#pragma once
// The shapes that every attention kernel of a GPU is tested on.

#include <vector>

#include "kernels/paged_attention_problem.h"

namespace kvasir::kernels {

// A few, small enough for a race checker.
inline std::vector<AttentionShape> quick_prefill_cases() {
  return {
      {.q_heads = 3,
       .kv_heads = 1,
       .head_dim = 64,
       .spans = {{70, 75}, {0, 40}, {1, 0}},
       .q_row_gap = 8,
       .page_gap_bytes = 192,
       .spare_pages = 2,
       .out_row_gap = 16},
      {.q_heads = 2,
       .kv_heads = 2,
       .head_dim = 128,
       .spans = {{129, 0}, {3, 200}},
       .window = 100,
       .spare_pages = 1},
      {.q_heads = 1, .kv_heads = 1, .head_dim = 80, .spans = {{40, 90}}, .with_lse = false},
      {.q_heads = 1, .kv_heads = 1, .head_dim = 256, .spans = {{66, 1}}, .window = 30},
      {.q_heads = 1, .kv_heads = 1, .head_dim = 96, .spans = {{5, -3}, {65, 64}}},
  };
}

// Of up to a thousand keys.
inline std::vector<AttentionShape> prefill_cases() {
  std::vector<AttentionShape> cases = quick_prefill_cases();
  // Edges of tiles, from the start and at an offset that is no multiple of one.
  for (const int64_t rows : {1, 2, 15, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257}) {
    cases.push_back({.q_heads = 2, .kv_heads = 1, .head_dim = 128, .spans = {{rows, 0}}});
    cases.push_back({.q_heads = 1, .kv_heads = 1, .head_dim = 64, .spans = {{rows, 321}}});
  }
  for (const int64_t offset : {1, 63, 64, 65, 128, 700})
    cases.push_back({.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{100, offset}}});
  for (const int head_dim : {16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256}) {
    cases.push_back(
        {.q_heads = 2, .kv_heads = 1, .head_dim = head_dim, .spans = {{150, 0}, {9, 250}}});
    cases.push_back({.q_heads = 2,
                     .kv_heads = 2,
                     .head_dim = head_dim,
                     .spans = {{77, 130}},
                     .window = 70,
                     .q_row_gap = 24,
                     .page_gap_bytes = 192,
                     .query_scale = 4,
                     .spare_pages = 3,
                     .out_row_gap = 8});
  }
  for (const int group : {1, 2, 3, 4, 7, 8})
    for (const int head_dim : {64, 128})
      cases.push_back({.q_heads = 2 * group,
                       .kv_heads = 2,
                       .head_dim = head_dim,
                       .spans = {{140, 30}, {3, 100}}});
  for (const int64_t window : {1, 2, 16, 63, 64, 65, 100, 128, 129, 300, 1000})
    cases.push_back({.q_heads = 2,
                     .kv_heads = 1,
                     .head_dim = window % 2 == 0 ? 128 : 64,
                     .spans = {{300, 0}, {33, 270}, {1, 299}, {1, 0}, {65, 64}},
                     .window = window});
  // Spans of none, one and many rows in one call.
  std::vector<SpanShape> many{{0, 0}, {0, 70}};
  for (int64_t i = 0; i < 40; ++i) many.push_back({i * 5 % 23, i * 7 % 91});
  many.push_back({260, 600});
  cases.push_back({.q_heads = 4,
                   .kv_heads = 2,
                   .head_dim = 64,
                   .spans = many,
                   .q_row_gap = 8,
                   .page_gap_bytes = 64,
                   .spare_pages = 5,
                   .out_row_gap = 16});
  cases.push_back({.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = many, .window = 96});
  cases.push_back({.spans = {{0, 0}}});
  cases.push_back({.head_dim = 128, .spans = {{0, 100}, {0, 0}}});
  // Rows without visible keys.
  cases.push_back({.q_heads = 2, .kv_heads = 1, .spans = {{5, -3}, {1, -1}, {2, -2}, {200, -130}}});
  cases.push_back({.head_dim = 128, .spans = {{140, -129}}, .window = 5});
  // Flat and peaked weights, maxima that rise often, scores far from 0, equal keys.
  for (const int head_dim : {64, 128}) {
    for (const float query_scale : {0.0f, 8.0f, 100.0f})
      cases.push_back({.q_heads = 2,
                       .kv_heads = 1,
                       .head_dim = head_dim,
                       .spans = {{200, 0}, {30, 500}},
                       .query_scale = query_scale});
    for (const float mean : {-30.0f, 30.0f})
      cases.push_back({.q_heads = 2,
                       .kv_heads = 1,
                       .head_dim = head_dim,
                       .spans = {{150, 40}},
                       .query_mean = mean,
                       .key_mean = 30});
    cases.push_back({.q_heads = 2,
                     .kv_heads = 1,
                     .head_dim = head_dim,
                     .spans = {{150, 40}},
                     .key_scale = 0,
                     .key_mean = 1.5});
  }
  return cases;
}

// Too long for the definition on the CPU.
inline std::vector<AttentionShape> long_prefill_cases() {
  return {
      {.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{4100, 0}}},
      {.q_heads = 4, .kv_heads = 1, .head_dim = 128, .spans = {{777, 20001}}},
      {.q_heads = 4, .kv_heads = 1, .head_dim = 64, .spans = {{777, 20001}, {3000, 0}, {1, 9000}}},
      {.q_heads = 2, .kv_heads = 1, .head_dim = 256, .spans = {{1500, 6000}}},
      {.q_heads = 2, .kv_heads = 2, .head_dim = 80, .spans = {{3001, 5}}},
      {.q_heads = 2, .kv_heads = 1, .head_dim = 96, .spans = {{2049, 2000}}, .query_scale = 6},
      {.q_heads = 4, .kv_heads = 2, .head_dim = 128, .spans = {{3000, 9000}}, .window = 1024},
  };
}

inline std::vector<AttentionShape> quick_decode_cases() {
  return {
      {.q_heads = 4,
       .kv_heads = 1,
       .head_dim = 64,
       .spans = {{1, 70}, {0, 40}, {1, 0}, {1, 300}},
       .q_row_gap = 8,
       .page_gap_bytes = 192,
       .spare_pages = 2,
       .out_row_gap = 16},
      {.q_heads = 8, .kv_heads = 2, .head_dim = 128, .spans = {{1, 200}, {1, 63}}, .window = 100},
      {.q_heads = 2, .kv_heads = 2, .head_dim = 80, .spans = {{1, 64}}, .with_lse = false},
      {.q_heads = 2, .kv_heads = 1, .head_dim = 256, .spans = {{1, 130}, {1, -1}}},
  };
}

inline std::vector<AttentionShape> decode_cases() {
  std::vector<AttentionShape> cases = quick_decode_cases();
  for (const int64_t length : {1, 2, 16, 63, 64, 65, 127, 128, 129, 1000, 20000})
    for (const int head_dim : {64, 128})
      cases.push_back(
          {.q_heads = 4, .kv_heads = 1, .head_dim = head_dim, .spans = {{1, length - 1}}});
  for (const int head_dim : {16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256})
    cases.push_back({.q_heads = 4,
                     .kv_heads = 2,
                     .head_dim = head_dim,
                     .spans = {{1, 2500}, {1, 0}, {1, 90}},
                     .q_row_gap = 24,
                     .page_gap_bytes = 192,
                     .query_scale = 3,
                     .spare_pages = 3,
                     .out_row_gap = 8});
  for (const int group : {1, 2, 3, 4, 7, 8, 16, 17, 32})
    for (const int head_dim : {64, 128})
      cases.push_back({.q_heads = 2 * group,
                       .kv_heads = 2,
                       .head_dim = head_dim,
                       .spans = {{1, 1200}, {1, 31}, {1, 333}}});
  for (const int64_t window : {1, 2, 63, 64, 65, 100, 128, 999, 1000, 1001, 5000})
    cases.push_back({.q_heads = 4,
                     .kv_heads = 2,
                     .head_dim = window % 2 == 0 ? 128 : 64,
                     .spans = {{1, 999}, {1, 0}, {1, 64}, {1, 2500}},
                     .window = window});
  // Batches of equal, of ragged and of skewed lengths, and of spans that are empty.
  for (const size_t batch : {2, 33, 70})
    cases.push_back({.q_heads = 8,
                     .kv_heads = 2,
                     .head_dim = 128,
                     .spans = std::vector<SpanShape>(batch, {1, 511})});
  std::vector<SpanShape> ragged, skewed{{0, 0}}, empty(5);
  for (int64_t i = 0; i < 70; ++i) ragged.push_back({i % 9 == 0 ? 0 : 1, i * 37 % 901});
  for (int64_t i = 0; i < 68; ++i) skewed.push_back({1, i % 5});
  skewed.push_back({1, 19999});
  for (const int head_dim : {64, 128}) {
    cases.push_back({.q_heads = 6, .kv_heads = 2, .head_dim = head_dim, .spans = ragged});
    cases.push_back({.q_heads = 4, .kv_heads = 1, .head_dim = head_dim, .spans = skewed});
  }
  cases.push_back({.spans = empty});
  cases.push_back({.spans = {{1, -1}, {1, 5}}});  // a row without keys
  // Flat and peaked weights, scores far from 0, equal keys.
  for (const int head_dim : {64, 128}) {
    for (const float query_scale : {0.0f, 8.0f, 100.0f})
      cases.push_back({.q_heads = 4,
                       .kv_heads = 1,
                       .head_dim = head_dim,
                       .spans = {{1, 900}, {1, 4000}},
                       .query_scale = query_scale});
    for (const float mean : {-30.0f, 30.0f})
      cases.push_back({.q_heads = 4,
                       .kv_heads = 1,
                       .head_dim = head_dim,
                       .spans = {{1, 1500}, {1, 40}},
                       .query_mean = mean,
                       .key_mean = 30});
    cases.push_back({.q_heads = 4,
                     .kv_heads = 1,
                     .head_dim = head_dim,
                     .spans = {{1, 1500}},
                     .key_scale = 0,
                     .key_mean = 1.5});
  }
  return cases;
}

// Many long sequences at once.
inline std::vector<AttentionShape> long_decode_cases() {
  std::vector<SpanShape> falling;
  for (int64_t i = 0; i < 24; ++i) falling.push_back({1, 30000 / (i + 1)});
  return {
      {.q_heads = 32, .kv_heads = 8, .head_dim = 128, .spans = {{1, 40000}, {1, 7}}},
      {.q_heads = 8, .kv_heads = 2, .head_dim = 64, .spans = falling},
      {.q_heads = 8, .kv_heads = 1, .head_dim = 128, .spans = falling, .window = 4096},
      {.q_heads = 16, .kv_heads = 2, .head_dim = 256, .spans = {{1, 20000}, {1, 12345}}},
  };
}

}  // namespace kvasir::kernels

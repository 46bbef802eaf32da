#pragma once
// The estimate of a range of keys, per instruction set. Plain declarations: see gemm_tile.h.

#include <cstdint>

namespace kvasir::kernels {

inline constexpr int kEstimateRows = 64;        // of a head, the unused ones behind the last query
inline constexpr int kEstimateTile = 64;        // keys scored at once: a page
inline constexpr int kEstimateRangeKeys = 512;  // keys of a task: whole pages

struct EstimateRange {
  const float* q = nullptr;  // [heads * 64, head_dim], scaled for 2^x; rows from `rows` on are 0
  int heads = 0;
  int rows = 0;  // queries of a head
  int64_t head_dim = 0;
  int64_t length = 0;     // keys in all; the last query's position is length - 1
  int64_t first_key = 0;  // a multiple of 64
  int64_t keys = 0;       // of this range, at most kEstimateRangeKeys
  bool is_bf16 = true;
  const char* pages = nullptr;  // the keys of the KV head in page 0 of the pool
  int64_t page_bytes = 0;
  const uint32_t* page_table = nullptr;
  float* scratch = nullptr;  // estimate_scratch_floats(...), of this worker
};

struct EstimateSums {
  const float* lse = nullptr;    // [heads * 64]: log2 of each row's sum
  float* column_sums = nullptr;  // [heads, row_stride]; the range's keys are written
  float* offset_sums = nullptr;  // [heads, row_stride]; offsets length - 1 - key of its keys
  int64_t row_stride = 0;
  float* carry = nullptr;  // [heads, 64]: what belongs to the offsets of the keys behind the range
};

// Maxima and sums of 2^(score - maximum) of the range, row by row. `maxima`, `sums`: [heads * 64].
using EstimateMaxima = void (*)(const EstimateRange& range, float* maxima, float* sums);
using EstimateShares = void (*)(const EstimateRange& range, const EstimateSums& sums);

struct EstimateFunctions {
  EstimateMaxima maxima = nullptr;
  EstimateShares shares = nullptr;
};

void estimate_maxima_avx2(const EstimateRange& range, float* maxima, float* sums);
void estimate_maxima_avx512(const EstimateRange& range, float* maxima, float* sums);
void estimate_shares_avx2(const EstimateRange& range, const EstimateSums& sums);
void estimate_shares_avx512(const EstimateRange& range, const EstimateSums& sums);

}  // namespace kvasir::kernels

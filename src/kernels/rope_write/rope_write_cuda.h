#pragma once
// Between the QKV projection and attention on a GPU, in one pass: norms of query and key heads,
// rotation, and the write of K and V into their pages. See rope_write.h.

#include <cstdint>

#include "base/dtype.h"
#include "cuda/context.h"
#include "kernels/page.h"

namespace kvasir::kernels {

// Cosines and sines of a step's rows, once for all layers. Angles are position * frequency rounded
// to f32, as in transformers.
struct CudaRopeAnglesArgs {
  const int32_t* positions = nullptr;     // [rows], device
  const int32_t* table_of_row = nullptr;  // [rows], device; null = table 0 for all
  const float* frequencies = nullptr;     // [tables, rotary_dim / 2], device
  float factor = 1;                       // attention factor: scales both
  int rotary_dim = 0;                     // even
  int64_t rows = 0;
  float* cos_sin = nullptr;  // [rows, rotary_dim]: rotary_dim/2 cosines, then as many sines
};

void run_rope_angles(const cuda::Context& context, const CudaRopeAnglesArgs& args);

struct CudaRopeWriteArgs {
  // [rows, q_heads + 2 * kv_heads, head_dim] in pages.dtype: queries, keys, values. q_heads = 0:
  // keys and values only; has_kv = false: queries only and nothing is written to the pages.
  const void* qkv = nullptr;
  int64_t rows = 0;
  int q_heads = 0;
  bool has_kv = true;
  PagePool pages;                 // base in device memory
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;  // [head_dim] or null
  float norm_eps = 0;
  int rotary_dim = 0;
  bool interleaved = false;        // element 2i pairs with 2i + 1, not i with i + rotary_dim/2
  const float* cos_sin = nullptr;  // [*, rotary_dim]
  // Row i has the angles of cos_sin row row_index[i]; null = identity.
  const int32_t* row_index = nullptr;
  void* q_out = nullptr;  // [rows, q_heads, head_dim] in pages.dtype; may alias nothing
  const int32_t* positions = nullptr;  // [rows], device
  // Row i's position p lies in page page_tables[first_page[i] + p / 64]. A row whose first_page is
  // negative writes nothing (padding).
  const int32_t* first_page = nullptr;    // [rows], device
  const uint32_t* page_tables = nullptr;  // device; of this layer
};

void run_rope_write(const cuda::Context& context, const CudaRopeWriteArgs& args);

}  // namespace kvasir::kernels

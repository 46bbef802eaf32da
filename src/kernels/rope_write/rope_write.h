#pragma once
// What stands between the QKV projection and attention, in one pass: the optional RMS norm of each
// query and key head (Qwen3), rotary embedding, and the write of K and V into their pages.

#include <cstdint>

#include "base/dtype.h"
#include "kernels/context.h"
#include "kernels/page.h"

namespace kvasir::kernels {

struct RopeWriteArgs {
  // [rows, q_heads + 2 * kv_heads, head_dim]: queries, keys, values. q_heads = 0: keys and values
  // only; has_kv = false: queries only, [rows, q_heads, head_dim], and nothing is written to the
  // pages.
  const float* qkv = nullptr;
  int64_t rows = 0;
  int q_heads = 0;
  bool has_kv = true;
  PagePool pages;                 // dtype, kv_heads, head_dim
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;  // [head_dim] or null
  float norm_eps = 0;
  int rotary_dim = 0;  // leading elements of a head that rotate; even, <= head_dim
  // Pairs that rotate, i in [0, rotary_dim / 2): elements i and i + rotary_dim / 2 ("rotate half"),
  // or with `interleaved` elements 2i and 2i + 1 (GLM).
  bool interleaved = false;
  const float* cos_sin = nullptr;  // [rows, rotary_dim]: rotary_dim/2 cosines, then as many sines
  void* q_out = nullptr;  // [rows, q_heads, head_dim] in pages.dtype, null where q_heads = 0
  const uint32_t* slot_page = nullptr;  // [rows] page index of each row's position
  const uint8_t* slot_row = nullptr;    // [rows] row inside the page, 0..63
};

void run_rope_write(const CpuContext& context, const RopeWriteArgs& args, Isa at_most = kEveryIsa);
void run_rope_write_reference(const CpuContext& context, const RopeWriteArgs& args);

}  // namespace kvasir::kernels

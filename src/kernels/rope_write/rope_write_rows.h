#pragma once
// One row (token) of rotary and page write, per instruction set. Plain declarations: see
// gemm_tile.h.

#include "kernels/rope_write/rope_write.h"

namespace kvasir::kernels {

// A row with its places worked out.
struct RopeWriteRow {
  const float* heads = nullptr;  // [q_heads (+ 2 * kv_heads), head_dim]
  int q_heads = 0;
  int kv_heads = 0;  // 0: queries only
  int head_dim = 0;
  int rotary_dim = 0;
  bool interleaved = false;
  const float* cos_sin = nullptr;
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  float norm_eps = 0;
  DType dtype = DType::kBF16;
  std::byte* q_out = nullptr;
  std::byte* k_out = nullptr;  // this row of K of KV head 0; V lies kv_offset behind it
  int64_t kv_offset = 0;       // bytes
  int64_t kv_head_bytes = 0;   // from KV head to KV head
};

using RopeWriteFunction = void (*)(const RopeWriteRow& row);

void rope_write_row_ref(const RopeWriteRow& row);
void rope_write_row_avx2(const RopeWriteRow& row);
void rope_write_row_avx512(const RopeWriteRow& row);

}  // namespace kvasir::kernels

#pragma once
// Rotary embedding in training, on a GPU: forward in place on stacked heads, backward from the
// gradients of queries, keys and values into the stacked ones. bf16. Bound by bandwidth.

#include <cstdint>

#include "cuda/context.h"

namespace kvasir::kernels {

struct RotateArgs {
  void* qkv = nullptr;                // [rows, q_heads + 2 kv_heads, head_dim] bf16, dense
  const float* cos_sin = nullptr;     // [*, rotary_dim]: cosines, then sines
  const int64_t* rotation = nullptr;  // [rows]: the row of cos_sin
  int64_t rows = 0;
  int q_heads = 0, kv_heads = 0;
  int head_dim = 0;          // even
  int rotary_dim = 0;        // even, at most head_dim
  bool interleaved = false;  // elements 2i and 2i + 1 rotate together, not i and i + rotary_dim / 2
};
// Rotates queries and keys.
void run_rotate(const cuda::Context& context, const RotateArgs& args);

struct RotateBackArgs {
  const void* d_q = nullptr;  // [rows, q_heads, head_dim] bf16, dense
  const void* d_k = nullptr;  // [rows, kv_heads, head_dim]
  const void* d_v = nullptr;  // [rows, kv_heads, head_dim]
  RotateArgs heads;           // qkv: every element is written
};
// qkv = the gradients turned back, one after another.
void run_rotate_back(const cuda::Context& context, const RotateBackArgs& args);

}  // namespace kvasir::kernels

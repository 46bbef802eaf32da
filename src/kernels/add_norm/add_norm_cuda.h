#pragma once
// RMS norm in training, on a GPU: forward, with the addition to the residual stream before it, and
// backward. bf16 activations, f32 weights and sums. Bound by bandwidth.

#include <cstdint>

#include "cuda/context.h"

namespace kvasir::kernels {

inline constexpr int64_t kMostNormSize = 8192;

// sum = x + y (rounded to bf16), normed = sum * scale * weight with
// scale = 1 / sqrt(mean(sum^2) + eps).
struct AddNormArgs {
  const void* x = nullptr;        // [rows, size] bf16, dense
  const void* y = nullptr;        // the same, or null: sum is x, and is not written
  const float* weight = nullptr;  // [size]
  void* sum = nullptr;            // [rows, size] bf16
  void* normed = nullptr;         // [rows, size] bf16
  float* scale = nullptr;         // [rows]
  int64_t rows = 0;
  int64_t size = 0;  // a multiple of 4, at most kMostNormSize
  float eps = 0;
};
void run_add_norm(const cuda::Context& context, const AddNormArgs& args);

// d_x = d_sum + scale * (d - unit * mean(d * unit)) with d = d_normed * weight and
// unit = sum * scale: the gradient of x, and of y. The weight's gradient is the sum of the rows of
// `weight_parts`.
struct AddNormBackwardArgs {
  const void* d_normed = nullptr;  // [rows, size] bf16, dense
  const void* d_sum = nullptr;     // the same, or null: none
  const void* sum = nullptr;       // [rows, size] bf16
  const float* scale = nullptr;    // [rows]
  const float* weight = nullptr;   // [size]
  void* d_x = nullptr;             // [rows, size] bf16
  float* weight_parts = nullptr;   // [add_norm_parts(...), size], every element written
  int64_t rows = 0;
  int64_t size = 0;
};
int64_t add_norm_parts(const cuda::Context& context, int64_t rows, int64_t size);
void run_add_norm_backward(const cuda::Context& context, const AddNormBackwardArgs& args);

}  // namespace kvasir::kernels

#pragma once
// Cross-entropy of rows of logits and its gradient in their place, on a GPU.

#include <cstdint>

#include "cuda/context.h"

namespace kvasir::kernels {

struct CrossEntropyArgs {
  void* logits = nullptr;            // [rows, vocab] bf16, dense; replaced by the gradient
  const int64_t* targets = nullptr;  // [rows], below vocab
  const float* weights = nullptr;    // [rows]: of the row's loss
  float* losses = nullptr;           // [rows]: weight * -log softmax(logits)[target]
  int64_t rows = 0;
  int64_t vocab = 0;            // a multiple of 8
  bool wants_gradient = false;  // otherwise logits stay as they are
};

void run_cross_entropy(const cuda::Context& context, const CrossEntropyArgs& args);

}  // namespace kvasir::kernels

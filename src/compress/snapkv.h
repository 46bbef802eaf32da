#pragma once
// The entries that the prompt's last queries attend to most, and the last ones themselves: in every
// layer as many (SnapKV, arXiv 2404.14469), or fewer from layer to layer (PyramidKV, arXiv
// 2406.02069). With n entries, a window of w and g query heads for each KV head:
//   score[j]  = sum over the g heads and the last w queries of their softmax's share of entry j
//   pooled[j] = sum of score[j + d] over |d| <= kernel / 2, zero outside [0, n - w), over kernel
//   kept      = the (capacity - w) largest pooled[j], the lower j first among equals, and the last
//   w
// The released code ranks for each query head, and so stores KV heads g times; here the heads that
// share a KV head rank together.

#include "compress/compressor.h"

namespace kvasir::compress {

// Either method, by the choice's name. Errors: kInvalidArgument where the capacity does not exceed
// the window or the kernel is even.
Result<std::shared_ptr<const Compressor>> make_snapkv(const MethodChoice& choice,
                                                      const ModelShape& model);

// Entries that a PyramidKV layer keeps after `tokens` tokens (the released code's rule).
int64_t pyramid_capacity(int layer, int layers, int64_t tokens, int64_t capacity, int64_t window,
                         int64_t beta);

// The entries that stay of one head: `scores` of the entries before the last `window` ones, whose
// places follow. kept.size() = what to keep, more than window; ascending.
void keep_highest(std::span<const float> scores, int64_t window, int64_t kernel,
                  std::span<int32_t> kept);

}  // namespace kvasir::compress
